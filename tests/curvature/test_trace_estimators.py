"""Estimators against dense matrices: unbiased, with intervals that cover; eigenvalues and densities likewise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sharpbench.core.measure import Estimate
from sharpbench.core.subject import Subject
from sharpbench.curvature import (
    dense_ggn,
    dense_hessian,
    flatten,
    hutchinson_diagonal,
    hutchinson_squared_norm,
    hutchinson_trace,
    hutchpp_squared_norm,
    hutchpp_trace,
    leading_eigenspace,
    linear_operator,
    scaled_operator,
    spectral_density,
    squared_norm,
    top_eigenvalues,
    trace_estimators,
    unflatten,
    xtrace,
)
from sharpbench.curvature.confidence import MeanEstimate
from sharpbench.curvature.products import Kind, LinearOperator
from sharpbench.curvature.spectral_density import OUTLIERS
from sharpbench.errors import InvalidInput

DENSE = {"hessian": dense_hessian, "gauss-newton": dense_ggn}


@pytest.fixture(scope="module")
def subject() -> Subject:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    return Subject.from_module(model, torch.randn(8, 4, dtype=torch.float64) * 2, torch.arange(8) % 3, batch_size=8)


@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
def test_matrix_is_the_dense_one(subject: Subject, kind: Kind) -> None:
    found = linear_operator(subject, kind) @ torch.eye(subject.size, dtype=torch.float64)
    torch.testing.assert_close(found, DENSE[kind](subject), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("estimator", [hutchinson_trace, hutchpp_trace, xtrace])
@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
def test_traces_are_unbiased(subject: Subject, estimator: Callable[..., Estimate], kind: Kind) -> None:
    truth = float(DENSE[kind](subject).trace())
    generator = torch.Generator().manual_seed(0)
    found = [estimator(subject, samples=12, generator=generator, kind=kind) for _ in range(30)]
    values = torch.tensor([each.value for each in found])
    assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / 30**0.5
    assert all(each.probes == 12 for each in found)


def test_projections_beat_hutchinson_on_gauss_newton(subject: Subject) -> None:
    truth = float(dense_ggn(subject).trace())

    def error(estimator: Callable[..., Estimate]) -> float:
        generator = torch.Generator().manual_seed(1)
        errors = [
            estimator(subject, samples=24, generator=generator, kind="gauss-newton").value - truth for _ in range(10)
        ]
        return float(torch.tensor(errors).square().mean().sqrt())

    plain = error(hutchinson_trace)
    assert error(hutchpp_trace) < plain / 3
    assert error(xtrace) < plain / 3


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "precision"), [(30, None), (100, None), (30, 0.3), (30, 0.1)])
def test_hutchinsons_interval_covers(subject: Subject, samples: int, precision: float | None) -> None:
    """The Gauss-Newton matrix of 8 examples, whose forms are skewed."""
    truth = float(dense_ggn(subject).trace())
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(2000):
        found = hutchinson_trace(
            subject, samples=samples, generator=generator, precision=precision, kind="gauss-newton"
        )
        assert found.interval is not None
        hits += found.interval[0] <= truth <= found.interval[1]
    assert 0.93 <= hits / 2000 <= 0.97


def test_precision_stops_hutchinson(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    found = hutchinson_trace(
        subject, samples=30, generator=torch.Generator().manual_seed(0), precision=0.1, kind="gauss-newton"
    )
    assert found.converged
    assert found.probes > 30
    assert found.interval is not None
    assert max(found.interval[1] - found.value, found.value - found.interval[0]) <= 0.1 * found.value
    monkeypatch.setattr(trace_estimators, "LIMIT", 50)
    short = hutchinson_trace(subject, samples=30, generator=torch.Generator().manual_seed(0), precision=1e-6)
    assert not short.converged
    assert 50 <= short.probes < 60


def test_of_the_zero_matrix() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    for value in model.parameters():
        nn.init.zeros_(value)
    nn.init.constant_(model[2].bias, 0.0)
    zero = Subject.from_module(model, torch.zeros(5, 4), torch.zeros(5, 3), loss=lambda f, y: (f * y).sum(1))
    for estimator in (hutchinson_trace, hutchpp_trace, xtrace):
        found = estimator(zero, samples=12, generator=torch.Generator().manual_seed(0))
        assert (found.value, found.stderr) == (0.0, 0.0)
        assert found.interval == (None if estimator is xtrace else (0.0, 0.0))


@pytest.mark.parametrize("samples", [12, 60])
def test_a_matrix_of_exactly_lower_rank_is_seen_whole(samples: int) -> None:
    x = torch.zeros(5, 300)
    x[:, 7] = 1.0
    low = Subject.from_module(nn.Linear(300, 2, bias=False), x, torch.arange(5) % 2)
    truth = float(hutchpp_trace(low, samples=samples, generator=torch.Generator().manual_seed(0)).value)
    found = xtrace(low, samples=samples, generator=torch.Generator().manual_seed(0))
    assert found.value == pytest.approx(truth, rel=1e-5)


@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
def test_diagonal_is_unbiased_with_standard_errors(subject: Subject, kind: Kind) -> None:
    found = hutchinson_diagonal(subject, samples=400, generator=torch.Generator().manual_seed(0), kind=kind)
    values = torch.cat([value.flatten() for value in found.values.values()])
    stderr = torch.cat([value.flatten() for value in found.stderr.values()])
    scores = (values - DENSE[kind](subject).diagonal()) / stderr.clamp_min(1e-300)
    assert float(scores.abs().max()) < 5
    assert 0.7 < float(scores.std()) < 1.3


@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
def test_top_eigenvalues(subject: Subject, kind: Kind) -> None:
    truth = torch.linalg.eigvalsh(DENSE[kind](subject)).flip(0)
    found = top_eigenvalues(subject, count=3, tolerance=1e-8, generator=torch.Generator().manual_seed(0), kind=kind)
    assert found.converged
    assert found.values == pytest.approx(truth[:3].tolist(), rel=1e-8)
    early = top_eigenvalues(subject, count=1, steps=3, tolerance=1e-9, generator=torch.Generator().manual_seed(0))
    assert not early.converged
    nearest = (torch.linalg.eigvalsh(dense_hessian(subject)) - early.values[0]).abs().min()
    assert float(nearest) <= early.residuals[0] * (1 + 1e-12)


def test_spectral_density_has_the_moments_of_the_matrix(subject: Subject) -> None:
    dense = dense_hessian(subject)
    found = spectral_density(subject, probes=40, steps=12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.weights.sum(1), torch.ones(40, dtype=torch.float64))
    scaled = found.mean() * subject.size
    assert abs(float(scaled.mean() - dense.trace())) < 4 * float(scaled.std()) / 40**0.5
    grid = torch.linspace(-3, 12, 3001, dtype=torch.float64)
    assert float(torch.trapezoid(found.smoothed(grid, 0.05), grid)) == pytest.approx(1, abs=1e-3)


def test_a_density_holds_the_large_eigenvalues_with_their_exact_weight(subject: Subject) -> None:
    truth = torch.linalg.eigvalsh(dense_hessian(subject))
    outliers = truth[truth > OUTLIERS * truth[-1]].flip(0)
    found = spectral_density(subject, probes=3, steps=4, generator=torch.Generator().manual_seed(0))
    for nodes, weights in zip(found.nodes, found.weights, strict=True):
        torch.testing.assert_close(nodes[: len(outliers)], outliers, rtol=1e-6, atol=0)
        torch.testing.assert_close(weights[: len(outliers)], torch.full_like(outliers, 1 / subject.size))
        assert float(nodes[len(outliers) :].max()) < float(outliers[-1])


def test_an_exhausted_start_goes_on_without_weight() -> None:
    """A multiple of the identity: one step finds all there is, and many steps say the same."""
    x = torch.eye(9, dtype=torch.float64)
    flat = Subject.from_module(nn.Linear(9, 1, bias=False).double(), x, x[:, :1] * 0, loss="mse")
    found = spectral_density(flat, probes=3, steps=7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.mean(), torch.full((3,), 2 / 9, dtype=torch.float64))
    torch.testing.assert_close((found.weights * found.nodes**2).sum(1), torch.full((3,), 4 / 81, dtype=torch.float64))


@pytest.mark.parametrize("share", [0.3, 0.05])
def test_leading_eigenspace(subject: Subject, share: float) -> None:
    values, vectors = torch.linalg.eigh(dense_hessian(subject))
    kept = values > share * values[-1]
    found = leading_eigenspace(
        linear_operator(subject), generator=torch.Generator().manual_seed(0), share=share, tolerance=1e-9, steps=100
    )
    assert found.converged
    torch.testing.assert_close(found.values, values[kept].flip(0), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.vectors.T @ found.vectors, torch.eye(len(found.values), dtype=torch.float64))
    projector = vectors[:, kept] @ vectors[:, kept].T
    torch.testing.assert_close(found.vectors @ found.vectors.T, projector, rtol=0, atol=1e-7)


def test_a_space_of_equal_eigenvalues_is_found_whole_in_the_steps_that_there_are() -> None:
    """A multiple of the identity [9, 9]: one step a vector."""
    x = torch.eye(9, dtype=torch.float64)
    flat = linear_operator(Subject.from_module(nn.Linear(9, 1, bias=False).double(), x, x[:, :1] * 0, loss="mse"))
    for steps in (4, 9, 20):
        found = leading_eigenspace(
            flat, generator=torch.Generator().manual_seed(0), share=0.1, tolerance=1e-9, steps=steps
        )
        wanted = min(steps, 9)
        assert found.steps == wanted
        assert found.converged == (steps >= 9)
        torch.testing.assert_close(found.values, torch.full((wanted,), 2 / 9, dtype=torch.float64))
        torch.testing.assert_close(found.vectors.T @ found.vectors, torch.eye(wanted, dtype=torch.float64))


@pytest.mark.parametrize("multiplicity", [1, 3, 8, 20])
@pytest.mark.parametrize("together", [1, 5, 64])
def test_every_vector_of_a_repeated_eigenvalue_is_found(multiplicity: int, together: int) -> None:
    """However many vectors go on together: eigenvalues 3 and 1, each repeated, above a spread below 0.2."""
    size, kept = 200, 2 * multiplicity
    spread = torch.linspace(-2, 0.2, size - kept, dtype=torch.float64)
    values = torch.cat((spread, torch.full((multiplicity,), 1.0), torch.full((multiplicity,), 3.0)))
    columns = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(1)).double())[0]
    dense = columns * values @ columns.T

    def product(flat: Tensor) -> Tensor:
        return dense @ flat

    operator = LinearOperator(size, columns, product, together)
    found = leading_eigenspace(
        operator, generator=torch.Generator().manual_seed(0), share=0.2, tolerance=1e-9, steps=2000
    )
    assert found.converged
    torch.testing.assert_close(found.values, values[-kept:].flip(0), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.vectors.T @ found.vectors, torch.eye(kept, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(found.vectors @ found.vectors.T, columns[:, -kept:] @ columns[:, -kept:].T)


def test_a_scaled_matrix_and_flat_vectors(subject: Subject) -> None:
    scale = flatten(subject.params)
    assert torch.equal(flatten(unflatten(subject.params, scale)), scale)
    found = scaled_operator(linear_operator(subject), scale) @ torch.eye(subject.size, dtype=torch.float64)
    torch.testing.assert_close(found, scale[:, None] * dense_hessian(subject) * scale, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("estimator", [hutchinson_squared_norm, hutchpp_squared_norm])
@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
def test_squared_norms_are_unbiased_with_intervals_that_cover(
    subject: Subject,
    estimator: Callable[..., MeanEstimate],
    kind: Kind,
) -> None:
    truth = float(DENSE[kind](subject).square().sum())
    assert squared_norm(linear_operator(subject, kind)) == pytest.approx(truth, rel=1e-12)
    generator = torch.Generator().manual_seed(0)
    found = [estimator(subject, samples=48, generator=generator, kind=kind) for _ in range(30)]
    if found[0].stderr < 1e-8 * truth:  # a matrix of lower rank, seen whole
        assert estimator is hutchpp_squared_norm
        assert all(each.value == pytest.approx(truth, rel=1e-10) for each in found)
        return
    scores = torch.tensor([(each.value - truth) / each.stderr for each in found])
    assert abs(float(scores.mean())) < 4 / 30**0.5
    covered = [each.interval is not None and each.interval[0] <= truth <= each.interval[1] for each in found]
    assert sum(covered) >= 25  # of 28.5 expected, three standard deviations less


def test_what_is_refused(subject: Subject) -> None:
    generator = torch.Generator()
    with pytest.raises(InvalidInput, match="samples=1 must be at least 2"):
        hutchinson_trace(subject, samples=1, generator=generator)
    with pytest.raises(InvalidInput, match="samples=1 must be at least 2"):
        hutchinson_diagonal(subject, samples=1, generator=generator)
    with pytest.raises(InvalidInput, match="samples=5 must be at least 6"):
        hutchpp_trace(subject, samples=5, generator=generator)
    with pytest.raises(InvalidInput, match="60 probes for 51 parameters"):
        xtrace(subject, samples=120, generator=generator)
    with pytest.raises(InvalidInput, match="need 1 <= count <= 51"):
        top_eigenvalues(subject, count=60, generator=generator)
    with pytest.raises(InvalidInput, match="need at least one probe"):
        spectral_density(subject, probes=0, steps=3, generator=generator)
    with pytest.raises(InvalidInput, match="matrix 'fisher' is unknown"):
        linear_operator(subject, "fisher")  # type: ignore[arg-type]
