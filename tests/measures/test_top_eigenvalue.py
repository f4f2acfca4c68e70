"""The largest eigenvalue against all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.curvature import MATRIX_LIMIT, dense_ggn, reference, reference_eigenvalue

Dense = Callable[[Subject], Tensor]


@pytest.mark.parametrize("name", ["chain", "conv", "smooth", "attention", "regression"])
def test_it_is_the_largest_of_all_eigenvalues(name: str, request: pytest.FixtureRequest, hessian: Dense) -> None:
    subject = request.getfixturevalue(name)
    truth = torch.linalg.eigvalsh(hessian(subject))
    estimate = measure("top-eigenvalue", subject)
    assert estimate.converged
    assert estimate.value == pytest.approx(float(truth[-1]), rel=1e-7)
    assert parse_measure("top-eigenvalue").exact(subject) == pytest.approx(float(truth[-1]), rel=1e-10)
    gauss_newton = float(torch.linalg.eigvalsh(dense_ggn(subject))[-1])
    assert measure("top-eigenvalue[matrix=gauss-newton]", subject).value == pytest.approx(gauss_newton, rel=1e-7)
    assert gauss_newton != pytest.approx(float(truth[-1]), rel=1e-3)


def test_of_least_squares_in_closed_form() -> None:
    """The Hessian of the mean of (w x - y)^2 is 2 X^T X / n."""
    torch.manual_seed(0)
    x = torch.randn(20, 6, dtype=torch.float64)
    subject = Subject.from_module(
        nn.Linear(6, 1, bias=False).double(), x, torch.randn(20, 1, dtype=torch.float64), loss="mse"
    )
    truth = float(torch.linalg.eigvalsh(2 * x.T @ x / 20)[-1])
    assert measure("top-eigenvalue", subject).value == pytest.approx(truth, rel=1e-8)


def test_the_sign_counts_unless_the_magnitude_is_asked_for(chain: Subject, hessian: Dense) -> None:
    """The loss turned around: what was the highest eigenvalue is the lowest."""

    def turned(logits: Tensor, targets: Tensor) -> Tensor:
        return -nn.functional.cross_entropy(logits, targets, reduction="none")

    values = torch.linalg.eigvalsh(hessian(chain))
    down = Subject.from_module(chain.module, chain.inputs, chain.targets, loss=turned)
    assert measure("top-eigenvalue", down).value == pytest.approx(-float(values[0]), rel=1e-7)
    found = measure("top-eigenvalue[magnitude=true]", down)
    assert found.value == pytest.approx(float(values[-1]), rel=1e-7)
    assert found.details["lowest"] == pytest.approx(-float(values[-1]), rel=1e-7)
    assert parse_measure("top-eigenvalue[magnitude=true]").exact(down) == pytest.approx(float(values[-1]), rel=1e-10)


def under_a_deep_valley() -> Subject:
    """Of f -> 0.001 f_0^2 - 50 (f_1^2 + f_2^2) by a linear model: the lower end is far longer than the upper one."""

    def valley(logits: Tensor, targets: Tensor) -> Tensor:
        return 0.001 * logits[:, 0].square() - 50 * logits[:, 1:].square().sum(1)

    torch.manual_seed(0)
    x = torch.randn(100, 30, dtype=torch.float64) * torch.linspace(0.05, 1, 30, dtype=torch.float64)
    return Subject.from_module(nn.Linear(30, 3, bias=False).double(), x, torch.arange(100) % 3, loss=valley)


@pytest.mark.parametrize(("word", "seed"), [("top-eigenvalue", 0), ("top-eigenvalue", 1), ("adaptive-spectral", 2)])
def test_it_is_converged_by_its_own_size_whatever_the_other_end(word: str, seed: int) -> None:
    subject = under_a_deep_valley()
    estimate = measure(word, subject, seed=seed)
    truth = parse_measure(word).exact(subject)
    assert truth is not None
    assert estimate.converged == (estimate.stderr == 0.0)
    assert not estimate.converged or estimate.value == pytest.approx(truth, rel=1e-4)
    early = measure(f"{word}[steps=12]", subject, seed=seed)
    assert not early.converged
    assert early.stderr is None


def test_what_has_not_converged_says_so_and_how_far_an_eigenvalue_is(chain: Subject, hessian: Dense) -> None:
    early = measure("top-eigenvalue[steps=3,tolerance=1e-9]", chain)
    assert not early.converged
    assert early.stderr is None
    nearest = float((torch.linalg.eigvalsh(hessian(chain)) - early.value).abs().min())
    assert 0 < nearest <= float(str(early.details["residual"])) * (1 + 1e-12)


def test_of_a_flat_loss(chain: Subject) -> None:
    flat = Subject.from_module(chain.module, chain.inputs, chain.targets, loss=lambda f, y: 0 * f.sum(1))
    assert measure("top-eigenvalue", flat).value == 0.0


def test_the_reference_of_large_networks_is_that_of_small_ones(chain: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = Subject.from_module(
        chain.module,
        chain.inputs,
        chain.targets,
        loss=lambda f, y: -nn.functional.cross_entropy(f, y, reduction="none"),
    )
    wanted = [reference_eigenvalue(turned, magnitude=magnitude) for magnitude in (False, True)]
    monkeypatch.setattr(reference, "MATRIX_LIMIT", 10)
    found = [reference_eigenvalue(turned, magnitude=magnitude) for magnitude in (False, True)]
    assert found == pytest.approx(wanted, rel=1e-9)
    assert found[0] < found[1]


def test_invariances(chain: Subject, attention: Subject, invariances_are_true) -> None:  # type: ignore[no-untyped-def]
    invariances_are_true(parse_measure("top-eigenvalue"), attention)
    invariances_are_true(parse_measure("top-eigenvalue[matrix=gauss-newton,magnitude=true]"), chain)


def test_examples_do_not_matter(chain: Subject, examples_do_not_matter) -> None:  # type: ignore[no-untyped-def]
    examples_do_not_matter(parse_measure("top-eigenvalue"), chain)


def test_a_seed_repeats(chain: Subject) -> None:
    one, same, other = (measure("top-eigenvalue[steps=4]", chain, seed=seed).value for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("name", ["top-eigenvalue", "adaptive-spectral", "quotient-norm", "igs"])
def test_hyperparameters_have_bounds(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"tolerance=0\.0 of the relative residual must be above 0"):
        parse_measure(f"{name}[tolerance=0]")
    with pytest.raises(InvalidInput, match="steps=1 must be from 2 to 1000"):
        parse_measure(f"{name}[steps=1]")


@pytest.mark.parametrize("name", ["top-eigenvalue", "adaptive-spectral", "quotient-norm"])
def test_where_the_oracle_takes_the_engines_products_records_say_so(name: str) -> None:
    assert parse_measure(name).oracle_limit == MATRIX_LIMIT
