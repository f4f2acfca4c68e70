"""The largest curvature of the loss along any direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from sharpbench import Estimate, Invariance, Measure, Quantity, Subject
from sharpbench.curvature import MATRIX_LIMIT, check_lanczos, leading_eigenvalue, linear_operator, reference_eigenvalue
from sharpbench_measures.citations import KESKAR


@dataclass(frozen=True)
class TopEigenvalue(Measure):
    """lambda_max(H), the algebraically largest eigenvalue of the Hessian of the mean loss, biases included.

    matrix: hessian, or gauss-newton, whose largest eigenvalue differs even if the diagonal blocks agree.
    magnitude: the largest modulus instead, the spectral norm of the matrix.
    tolerance: of the residual, relative to the value; steps: the largest number of products. The error of the value
    is of the order of the residual's square over the gap to the next eigenvalue, and at most the residual.
    details.residual is absolute: an eigenvalue is at most that far away. details.highest and lowest are the ends of
    the spectrum that the same run found. Cost: about 10 to 50 products of about three gradients each.
    """

    name: ClassVar[str] = "top-eigenvalue"
    title: ClassVar[str] = "largest eigenvalue of the Hessian"
    family: ClassVar[str] = "curvature"
    source: ClassVar[str] = (
        "Hochreiter, Schmidhuber 1997, Flat Minima; Keskar et al. 2017, On Large-Batch Training; Lanczos 1950"
    )
    definition: ClassVar[str] = "max_v v^T H v / v^T v; max_v |v^T H v| / v^T v with magnitude=true"
    reduction: ClassVar[str] = "mean over examples"
    penalised: ClassVar[bool] = True
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "about 10 to 50 products of some 3 gradients each"
    bibtex: ClassVar[str] = KESKAR
    oracle_limit: ClassVar[int | None] = MATRIX_LIMIT
    quantity: ClassVar[Quantity | None] = "top-eigenvalue"
    contests: ClassVar[tuple[str, ...]] = ("", "matrix=gauss-newton")
    matrix: Literal["hessian", "gauss-newton"] = "hessian"
    magnitude: bool = False
    tolerance: float = 1e-4
    steps: int = 100

    def __post_init__(self) -> None:
        check_lanczos(self.tolerance, self.steps)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; only its start is random."""
        return leading_eigenvalue(
            linear_operator(subject, self.matrix),
            generator=generator,
            tolerance=self.tolerance,
            steps=self.steps,
            magnitude=self.magnitude,
        )

    def exact(self, subject: Subject) -> float | None:
        """From all eigenvalues of the dense matrix; for large networks by another solver on the same products."""
        return reference_eigenvalue(subject, self.matrix, magnitude=self.magnitude)

    def invariances(self) -> frozenset[Invariance]:
        """Only orthogonal rewrites."""
        return frozenset({"permutation", "attention-rotation"})
