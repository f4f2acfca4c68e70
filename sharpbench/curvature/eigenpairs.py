"""Eigenpairs: the largest eigenvalues of a matrix with their vectors, by block Lanczos."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpbench.curvature.lanczos import check_lanczos, run_lanczos, start_block
from sharpbench.curvature.products import LinearOperator
from sharpbench.errors import InvalidInput

MAX_EIGENPAIRS = 100
"""Eigenvectors that one call finds; each is as large as the network."""


@dataclass(frozen=True, slots=True, eq=False)
class Eigenpairs:
    """values [k], largest first, float64 on the CPU, of orthonormal vectors [P, k], whose largest entries are positive.

    residuals [k]: |A x - value x|; an eigenvalue is at most that far from each value. products: taken with the matrix.
    converged: whether every residual is below the tolerance.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int
    converged: bool


def find_eigenpairs(
    operator: LinearOperator,
    *,
    generator: torch.Generator,
    count: int,
    tolerance: float = 1e-3,
    steps: int = 300,
    magnitude: bool = False,
) -> Eigenpairs:
    """The `count` largest eigenvalues of a symmetric matrix [P, P], with their eigenvectors.

    Block Lanczos from `count` random vectors, so that an eigenvalue that is repeated is found as often as it is there.

    Args:
        generator: draws the start vectors, on the CPU.
        count: how many; at most MAX_EIGENPAIRS, and at most P.
        tolerance: bound on the residuals relative to the largest modulus.
        steps: the largest number of products.
        magnitude: take those of the largest modulus, in that order, instead of the algebraically largest.

    Cost: at most `steps` products, `count` at a time.

    >>> operator = curvature.linear_operator(subject)
    >>> found = curvature.find_eigenpairs(operator, generator=torch.Generator().manual_seed(0), count=2)
    >>> found.values.round(decimals=6).abs(), tuple(found.vectors.shape)
    (tensor([5., 0.], dtype=torch.float64), (8, 2))
    """
    check_lanczos(tolerance, steps)
    most = min(MAX_EIGENPAIRS, operator.size, steps)
    if not 1 <= count <= most:
        raise InvalidInput(f"count={count} eigenvalues must be from 1 to {most} with {operator.size:,} parameters")

    def chosen(values: Tensor) -> Tensor:
        return (values.abs() if magnitude else values).argsort(descending=True)[:count]

    def enough(values: Tensor, residuals: Tensor) -> bool:
        return bool((residuals[chosen(values)] <= tolerance * values.abs().max()).all())

    start = start_block(operator, generator, count)
    found = run_lanczos(operator, start, min(steps, operator.size), enough)
    places = chosen(found.values)
    vectors = found.basis.T @ found.vectors[:, places].to(found.basis)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return Eigenpairs(
        found.values[places],
        vectors * largest.sign(),
        found.residuals[places],
        len(found.values),
        found.converged,
    )
