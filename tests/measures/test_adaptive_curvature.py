"""Curvature in units of the weights against dense matrices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput, NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.curvature import DENSE_LIMIT, dense_ggn

Dense = Callable[[Subject], Tensor]


def weights(subject: Subject) -> Tensor:
    return torch.cat([value.flatten() for value in subject.params.values()])


@pytest.mark.parametrize("name", ["chain", "conv", "smooth", "attention"])
def test_they_are_those_of_the_scaled_matrix(name: str, request: pytest.FixtureRequest, hessian: Dense) -> None:
    subject = request.getfixturevalue(name)
    theta = weights(subject).abs()
    dense = theta[:, None] * hessian(subject) * theta
    largest = float(torch.linalg.eigvalsh(dense)[-1])
    assert measure("adaptive-spectral", subject).value == pytest.approx(largest, rel=1e-7)
    assert parse_measure("adaptive-spectral").exact(subject) == pytest.approx(largest, rel=1e-10)
    trace = float(dense.trace())
    exact = measure("adaptive-trace[method=exact]", subject)
    assert exact.value == pytest.approx(trace, rel=1e-10)
    assert sum(exact.parts.values()) == pytest.approx(trace, rel=1e-10)
    assert parse_measure("adaptive-trace").exact(subject) == pytest.approx(trace, rel=1e-10)


def test_spectral_of_gauss_newton(smooth: Subject) -> None:
    theta = weights(smooth)
    largest = float(torch.linalg.eigvalsh(theta[:, None] * dense_ggn(smooth) * theta)[-1])
    assert measure("adaptive-spectral[matrix=gauss-newton]", smooth).value == pytest.approx(largest, rel=1e-7)
    assert measure("adaptive-spectral", smooth).value != pytest.approx(largest, rel=1e-3)


@pytest.mark.parametrize("name", ["chain", "conv"])
def test_the_trace_of_a_certified_network_is_exact(name: str, request: pytest.FixtureRequest, hessian: Dense) -> None:
    subject = request.getfixturevalue(name)
    estimate = measure("adaptive-trace", subject)
    truth = float((weights(subject).square() * hessian(subject).diagonal()).sum())
    assert estimate.value == pytest.approx(truth, rel=1e-10)
    assert (estimate.stderr, estimate.probes) == (0.0, 0)


def test_the_trace_of_a_smooth_network_takes_what_is_missing(smooth: Subject) -> None:
    """Entry by entry on a small network; samples of a scaled residual are tested with `curvature.residual`."""
    truth = measure("adaptive-trace[method=exact]", smooth)
    estimate = measure("adaptive-trace", smooth)
    assert estimate.parts == pytest.approx(dict(truth.parts), rel=1e-9)
    assert (estimate.value, estimate.stderr) == (pytest.approx(truth.value, rel=1e-10), 0.0)
    assert estimate.details["operators"] == "aten.gelu.default"


def test_in_closed_form() -> None:
    """(u v - 1)^2: u^2 L_uu + v^2 L_vv = 4 u^2 v^2, and the scaled matrix is u v [[2 u v, 4 u v - 2]]."""

    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u, self.v = (nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (2.0, -3.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.u * self.v * x

    x = torch.ones(3, 1, dtype=torch.float64)
    subject = Subject.from_module(Product(), x, x, loss="mse")
    assert measure("adaptive-trace", subject).value == pytest.approx(4 * 36, rel=1e-12)
    dense = torch.tensor([[72.0, 6 * 26], [6 * 26, 72.0]], dtype=torch.float64)  # L_uv = 4 u v - 2 = -26
    largest = float(torch.linalg.eigvalsh(dense)[-1])
    assert measure("adaptive-spectral", subject).value == pytest.approx(largest, rel=1e-10)


def test_weights_of_zero_are_frozen(chain: Subject, hessian: Dense) -> None:
    """A weight of 0 adds nothing, and the rest is that of the matrix without its row."""
    params = {name: value.clone() for name, value in chain.params.items()}
    params["0.weight"][1:3] = 0
    params["4.bias"][:] = 0
    pruned = chain.with_params(params)
    theta = weights(pruned)
    kept = theta != 0
    dense = (theta[:, None] * hessian(pruned) * theta)[kept][:, kept]
    assert measure("adaptive-trace", pruned).value == pytest.approx(float(dense.trace()), rel=1e-10)
    largest = float(torch.linalg.eigvalsh(dense)[-1])
    assert measure("adaptive-spectral", pruned).value == pytest.approx(largest, rel=1e-7)
    nothing = chain.with_params({name: torch.zeros_like(value) for name, value in params.items()})
    assert measure("adaptive-trace", nothing).value == 0.0
    assert measure("adaptive-spectral", nothing).value == 0.0


@pytest.mark.slow
def test_invariances(chain: Subject, attention: Subject, invariances_are_true) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(3)
    wide = nn.Sequential(nn.Linear(5, 200), nn.GELU(), nn.Linear(200, 3))
    sampled = Subject.from_module(wide, torch.randn(9, 5), torch.arange(9) % 3)
    assert measure("adaptive-trace[precision=0.5]", sampled).probes > 0
    invariances_are_true(parse_measure("adaptive-spectral"), chain, attention)
    invariances_are_true(parse_measure("adaptive-trace[method=exact]"), chain)
    invariances_are_true(parse_measure("adaptive-trace[precision=0.5]"), sampled)


@pytest.mark.parametrize("word", ["adaptive-spectral", "adaptive-trace"])
def test_examples_do_not_matter(word: str, chain: Subject, examples_do_not_matter) -> None:  # type: ignore[no-untyped-def]
    examples_do_not_matter(parse_measure(word), chain)


def test_an_exact_trace_never_samples() -> None:
    wide = nn.Sequential(nn.Linear(5, DENSE_LIMIT // 8), nn.GELU(), nn.Linear(DENSE_LIMIT // 8, 3))
    large = Subject.from_module(wide, torch.zeros(2, 5), torch.arange(2))
    with pytest.raises(NotApplicable, match=r"aten\.gelu\.default; use method=auto"):
        measure("adaptive-trace[method=exact]", large)
    assert parse_measure("adaptive-trace").exact(large) is None


def test_hyperparameters_have_bounds() -> None:
    with pytest.raises(InvalidInput, match="budget=7 must be from 8"):
        parse_measure("adaptive-trace[budget=7]")
    with pytest.raises(InvalidInput, match=r"precision=0\.0 must be above 0"):
        parse_measure("adaptive-trace[precision=0]")
