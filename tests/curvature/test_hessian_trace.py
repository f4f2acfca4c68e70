"""The sampled residual against dense matrices, and how often its interval covers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sharpbench.core.subject import Subject
from sharpbench.curvature import (
    certificate,
    dense_ggn,
    dense_hessian,
    residual_forms,
    trace_estimate,
)
from sharpbench.curvature.reference import parameter_blocks
from sharpbench.curvature.trace_estimators import draw_probes, draw_signs
from sharpbench.errors import InvalidInput


def smooth(activation: nn.Module | None = None) -> Subject:
    torch.manual_seed(0)
    layers = [nn.Linear(5, 6), activation or nn.GELU(), nn.LayerNorm(6), nn.Linear(6, 3)]
    model = nn.Sequential(*layers).double()
    x = torch.randn(9, 5, dtype=torch.float64)
    return Subject.from_module(model, x, torch.arange(9) % 3, batch_size=4)


def test_forms_are_those_of_the_dense_residual() -> None:
    subject = smooth()
    residual = dense_hessian(subject) - dense_ggn(subject)
    for name, where in parameter_blocks(subject).items():
        forms = residual_forms(subject, name, 12, torch.Generator().manual_seed(3))
        probes = draw_signs(subject.params[name], 12, torch.Generator().manual_seed(3)).flatten(1)
        wanted = torch.einsum("ki,ij,kj->k", probes, residual[where, where], probes)
        torch.testing.assert_close(forms, wanted, rtol=1e-11, atol=1e-13)


def test_certified_networks_are_not_sampled() -> None:
    subject = Subject.from_module(nn.Linear(4, 3), torch.randn(5, 4), torch.arange(5) % 3)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    estimate = trace_estimate(subject, generator=generator)
    assert torch.equal(before, generator.get_state())
    assert (estimate.stderr, estimate.probes, estimate.details["method"]) == (0.0, 0, "exact")
    assert estimate.details["certified"] == 1.0


@pytest.mark.slow
def test_the_interval_covers_the_true_trace() -> None:
    subject = smooth()
    trace = float(dense_hessian(subject).trace())
    generator = torch.Generator().manual_seed(0)
    hits = 0
    errors = []
    for _ in range(120):
        estimate = trace_estimate(subject, generator=generator)
        assert estimate.interval is not None
        hits += estimate.interval[0] <= trace <= estimate.interval[1]
        errors.append((estimate.value - trace) / estimate.stderr)  # type: ignore[operator]
    assert 0.90 <= hits / 120 <= 0.99
    assert abs(sum(errors)) / 120 < 4 / 120**0.5  # unbiased
    assert estimate.probes == 32 * sum(bool(found) for found in certificate(subject).values())
    assert sum(estimate.parts.values()) == pytest.approx(estimate.value)


@pytest.mark.slow
def test_precision_is_reached() -> None:
    subject = smooth(nn.Tanh())
    loose = trace_estimate(subject, generator=torch.Generator().manual_seed(0))
    tight = trace_estimate(subject, generator=torch.Generator().manual_seed(0), precision=0.02)
    assert tight.converged
    assert tight.interval is not None
    assert tight.interval[1] - tight.value <= 0.02 * abs(tight.value)
    assert tight.probes >= loose.probes


def test_what_is_refused() -> None:
    subject, generator = smooth(), torch.Generator()
    with pytest.raises(InvalidInput, match="samples=1 must be at least 2"):
        trace_estimate(subject, generator=generator, samples=1)
    with pytest.raises(InvalidInput, match="needs precision > 0 and samples >= 30"):
        trace_estimate(subject, generator=generator, samples=10, precision=0.1)
    with pytest.raises(InvalidInput, match="distribution 'cauchy' is unknown"):
        draw_probes(torch.ones(2), 3, generator, "cauchy")  # type: ignore[arg-type]


def test_gaussian_probes() -> None:
    drawn = draw_probes(torch.ones(2, dtype=torch.float64), 20_000, torch.Generator().manual_seed(0), "gaussian")
    torch.testing.assert_close(drawn.T @ drawn / 20_000, torch.eye(2, dtype=torch.float64), rtol=0, atol=0.03)
