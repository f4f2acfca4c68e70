"""The largest eigenvalue of a matrix that changes little from one call to the next, as during training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpbench.curvature.lanczos import run_lanczos, start_block
from sharpbench.curvature.products import LinearOperator

COLD_STARTS_EVERY = 20
"""Calls after which the start is random again, so that an eigenvalue that has overtaken the followed one is found."""


@dataclass(frozen=True, slots=True, eq=False)
class FollowedEigenvalue:
    """value: the algebraically largest eigenvalue. residual: an eigenvalue lies at least that near to it. products: how
    many were taken. converged: whether the residual is within the tolerance. warm: whether the start came from the
    call before. vector [P]: the approximate eigenvector, for the next call. calls: how many came before."""

    value: float
    residual: float
    products: int
    converged: bool
    warm: bool
    vector: Tensor
    calls: int


def follow_eigenvalue(
    operator: LinearOperator,
    before: FollowedEigenvalue | None,
    *,
    generator: torch.Generator,
    tolerance: float = 0.01,
    steps: int = 100,
) -> FollowedEigenvalue:
    """The algebraically largest eigenvalue, by Lanczos from the eigenvector of the call before.

    Args:
        before: the result for the matrix at an earlier step; None for a random start.
        generator: draws the random starts, on the CPU.
        tolerance: bound on |A x - value x| relative to the value. The error of the value is of the order of the
            residual's square over the gap to the next eigenvalue, and at most the residual.
        steps: the largest number of products.

    Every COLD_STARTS_EVERY-th call starts at random: a start that lies in an eigenspace never leaves it.

    >>> operator, draws = curvature.linear_operator(subject), torch.Generator().manual_seed(0)
    >>> cold = curvature.follow_eigenvalue(operator, None, generator=draws)
    >>> warm = curvature.follow_eigenvalue(operator, cold, generator=draws)
    >>> round(warm.value, 6), warm.warm, warm.products
    (5.0, True, 1)
    """
    calls = 0 if before is None else before.calls + 1
    warm = before is not None and len(before.vector) == operator.size and calls % COLD_STARTS_EVERY != 0
    start = before.vector[None] if warm and before is not None else start_block(operator, generator)

    def enough(values: Tensor, residuals: Tensor) -> bool:
        return bool(residuals[-1] <= tolerance * values[-1].abs())

    found = run_lanczos(operator, start, min(steps, operator.size), enough, every=1)
    vector = found.vectors[:, -1].to(found.basis) @ found.basis
    return FollowedEigenvalue(
        value=float(found.values[-1]),
        residual=float(found.residuals[-1]),
        products=len(found.values),
        converged=found.converged,
        warm=warm,
        vector=vector / torch.linalg.vector_norm(vector),
        calls=calls,
    )
