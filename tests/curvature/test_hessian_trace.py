"""The sampled residual against dense matrices, and how often its interval covers."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from sharpbench.core.measure import Estimate
from sharpbench.core.subject import Subject
from sharpbench.curvature import dense_hessian, reference_diagonal, trace_estimate
from sharpbench.curvature.trace_estimators import draw_probes
from sharpbench.errors import InvalidInput


def smooth(activation: nn.Module | None = None) -> Subject:
    torch.manual_seed(0)
    layers = [nn.Linear(5, 6), activation or nn.GELU(), nn.LayerNorm(6), nn.Linear(6, 3)]
    model = nn.Sequential(*layers).double()
    x = torch.randn(9, 5, dtype=torch.float64)
    return Subject.from_module(model, x, torch.arange(9) % 3, batch_size=4)


def test_certified_networks_are_not_sampled() -> None:
    subject = Subject.from_module(nn.Linear(4, 3), torch.randn(5, 4), torch.arange(5) % 3)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    estimate = trace_estimate(subject, generator=generator)
    assert torch.equal(before, generator.get_state())
    assert (estimate.stderr, estimate.probes, estimate.details["method"]) == (0.0, 0, "exact")
    assert estimate.details["certified"] == 1.0


@cache
def wide(count: int = 12) -> Subject:
    """A network of 640 uncertified parameters, whose residual is a large share of the trace."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 19), nn.Tanh(), nn.Linear(19, 3)).double()
    for value in model.parameters():
        nn.init.normal_(value, std=2 * float(value.detach().std()))
    x = torch.randn(count, 12, dtype=torch.float64)
    return Subject.from_module(model, x, torch.arange(count) % 3)


def test_parts_have_standard_errors_and_add_up() -> None:
    subject = wide()
    truth = {name: float(value.sum()) for name, value in reference_diagonal(subject).items()}
    found = [trace_estimate(subject, generator=torch.Generator().manual_seed(s), precision=0.4) for s in range(8)]
    for name, value in truth.items():
        errors = torch.tensor([(each.parts[name] - value, each.parts_stderr[name]) for each in found])
        if name.startswith("4"):
            assert float(errors.abs().max()) < 1e-10  # the head is certified
        else:
            assert 0.2 < float(errors[:, 0].square().mean() / errors[:, 1].square().mean()) < 2.8
    for each in found:
        assert sum(each.parts.values()) == pytest.approx(each.value)
        assert each.probes > 0
        assert each.details["products"] < 100


def test_precision_is_reached_within_the_budget_or_given_up() -> None:
    subject = wide()

    def estimate(precision: float, budget: int) -> Estimate:
        return trace_estimate(subject, generator=torch.Generator().manual_seed(0), precision=precision, budget=budget)

    loose, tight, short = estimate(0.3, 1000), estimate(0.15, 1000), estimate(0.001, 30)
    for found, precision in ((loose, 0.3), (tight, 0.15)):
        assert found.converged
        assert found.interval is not None
        reach = max(found.interval[1] - found.value, found.value - found.interval[0])
        assert 0 < reach <= precision * abs(found.value)
    assert loose.details["products"] < tight.details["products"]
    assert not short.converged
    assert 20 <= short.details["products"] <= 30  # type: ignore[operator]


def test_the_residual_is_exact_where_that_takes_fewer_products() -> None:
    subject = wide()
    found = trace_estimate(subject, generator=torch.Generator().manual_seed(0), precision=1e-4)
    assert found.value == pytest.approx(float(dense_hessian(subject).trace()), rel=1e-11)
    assert (found.stderr, found.probes, found.details["method"]) == (0.0, 0, "gauss-newton + residual diagonal")
    assert found.converged


def test_what_is_refused() -> None:
    subject, generator = smooth(), torch.Generator()
    with pytest.raises(InvalidInput, match=r"precision=0 must be above 0"):
        trace_estimate(subject, generator=generator, precision=0)
    with pytest.raises(InvalidInput, match="budget=7 must be from 8, the first round, to 1,000,000 products"):
        trace_estimate(subject, generator=generator, budget=7)
    with pytest.raises(InvalidInput, match="distribution 'cauchy' is unknown"):
        draw_probes(torch.ones(2), 3, generator, "cauchy")  # type: ignore[arg-type]


def test_gaussian_probes() -> None:
    drawn = draw_probes(torch.ones(2, dtype=torch.float64), 20_000, torch.Generator().manual_seed(0), "gaussian")
    torch.testing.assert_close(drawn.T @ drawn / 20_000, torch.eye(2, dtype=torch.float64), rtol=0, atol=0.03)
