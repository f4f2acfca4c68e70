"""Spectra against dense eigendecompositions, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpbench import InvalidInput, SpectrumOptions, Subject, measure_spectrum
from sharpbench.curvature import (
    LinearOperator,
    dense_ggn,
    dense_hessian,
    find_eigenpairs,
    flatten,
    smooth_density,
    spectral_density,
)
from sharpbench.curvature.eigenpairs import MAX_EIGENPAIRS


def make_subject() -> Subject:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return Subject.from_module(model, torch.randn(20, 4, dtype=torch.float64), torch.randint(3, (20,)))


def largest(matrix: Tensor, count: int) -> Tensor:
    return torch.linalg.eigvalsh(matrix).flip(0)[:count]


def operator_of(matrix: Tensor) -> LinearOperator:
    return LinearOperator(len(matrix), matrix.new_empty(1), lambda flat: matrix @ flat, together=8)


@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
def test_eigenvalues_vectors_batches_blocks_and_density_are_those_of_the_dense_matrix(kind: Any) -> None:
    subject = make_subject()
    of = dense_hessian if kind == "hessian" else dense_ggn
    options = SpectrumOptions(kind=kind, batch_size=8, groups="layer", probes=2, steps=60, tolerance=1e-9)
    found = measure_spectrum(subject, options)
    dense = of(subject)
    torch.testing.assert_close(found.eigenvalues, largest(dense, 5), rtol=1e-8, atol=1e-10)
    assert found.ratio == pytest.approx(float(largest(dense, 5)[0] / largest(dense, 5)[4]), rel=1e-7)
    vectors = torch.stack([flatten(vector) for vector in found.eigenvectors], 1)
    torch.testing.assert_close(dense @ vectors, vectors * found.eigenvalues, rtol=0, atol=1e-7)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-9)

    assert found.batch_values.shape == (2, 5)  # the last four examples fill no batch
    for index, values in enumerate(found.batch_values):
        batch = of(subject.take(slice(8 * index, 8 * index + 8)))
        torch.testing.assert_close(values, largest(batch, 5), rtol=1e-7, atol=1e-9)

    places = {"0": slice(0, 25), "2": slice(25, 43)}
    assert list(found.blocks) == list(places)
    for name, place in places.items():
        torch.testing.assert_close(found.blocks[name].values, largest(dense[place, place], 5), rtol=1e-7, atol=1e-9)

    assert found.density is not None
    traces = found.size * found.density.mean()
    assert float(traces.mean()) == pytest.approx(float(dense.trace()), rel=0.5)
    assert not found.unconverged


def test_repeated_eigenvalues_are_found_as_often_as_they_are_there() -> None:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(30, 30, dtype=torch.float64))[0]
    values = torch.cat((torch.tensor([3.0, 3.0, 3.0, -5.0], dtype=torch.float64), torch.linspace(0, 1, 26).double()))
    operator = operator_of(basis @ values.diag() @ basis.T)
    draws = torch.Generator().manual_seed(0)
    found = find_eigenpairs(operator, generator=draws, count=4, tolerance=1e-8)
    assert found.values.tolist() == pytest.approx([3.0, 3.0, 3.0, 1.0])
    found = find_eigenpairs(operator, generator=draws, count=2, tolerance=1e-8, magnitude=True)
    assert found.values.tolist() == pytest.approx([-5.0, 3.0])
    assert bool((found.vectors.gather(0, found.vectors.abs().argmax(0, keepdim=True)) > 0).all())


def test_all_eigenvalues_of_a_matrix_of_low_rank() -> None:
    vector = torch.randn(6, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = find_eigenpairs(operator_of(vector @ vector.T), generator=torch.Generator().manual_seed(1), count=6)
    assert found.values.tolist() == pytest.approx([float(vector.square().sum()), *[0.0] * 5], abs=1e-9)


def test_too_few_products_are_stated() -> None:
    found = measure_spectrum(make_subject(), SpectrumOptions(count=3, tolerance=1e-12, products=3, batch_size=20))
    assert found.unconverged == ("the loss", "batch 1")
    assert found.ratio is None


def test_the_density_is_one_over_the_whole_spectrum() -> None:
    density = spectral_density(make_subject(), probes=2, steps=10, generator=torch.Generator().manual_seed(0))
    grid, values = smooth_density(density)
    assert float(torch.trapezoid(values, grid)) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count=0 eigenvalues must be at least 1"),
        ({"batch_size": 0}, "batch_size=0 examples must be at least 1"),
        ({"probes": -1}, "probes=-1 must be at least 0, and steps=60 at least 1"),
        ({"tolerance": 0.0}, "tolerance=0.0 of the relative residual"),
        ({"products": 1}, "products=1 must be from 2 to 1,000"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        SpectrumOptions(**options)


def test_what_does_not_fit_the_subject_is_refused() -> None:
    with pytest.raises(InvalidInput, match="batch_size=21 is above the 20 examples"):
        measure_spectrum(make_subject(), SpectrumOptions(batch_size=21))
    with pytest.raises(InvalidInput, match="groups='rows' is unknown"):
        measure_spectrum(make_subject(), SpectrumOptions(groups="rows"))
    with pytest.raises(InvalidInput, match="matrix 'fisher' is unknown"):
        measure_spectrum(make_subject(), SpectrumOptions(kind="fisher"))  # type: ignore[arg-type]
    operator = operator_of(torch.eye(200, dtype=torch.float64))
    with pytest.raises(InvalidInput, match=f"count=101 eigenvalues must be from 1 to {MAX_EIGENPAIRS}"):
        find_eigenpairs(operator, generator=torch.Generator(), count=101)
