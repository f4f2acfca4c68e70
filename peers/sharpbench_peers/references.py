"""Reference values of the quantities that the libraries claim to compute."""

from __future__ import annotations

from typing import Literal

from sharpbench import Subject
from sharpbench.curvature import (
    DENSE_LIMIT,
    certificate,
    reference_eigenvalue,
    reference_ggn_traces,
    reference_traces,
)

Matrix = Literal["hessian", "gauss-newton"]


def reference_trace(subject: Subject, matrix: Matrix) -> float | None:
    """The trace by the definition; None for the Hessian of a large network that is not piecewise affine."""
    if matrix == "gauss-newton":
        return sum(reference_ggn_traces(subject).values())
    if subject.size > DENSE_LIMIT and any(subject.once(certificate).values()):
        return None
    return sum(reference_traces(subject).values())


def reference_dominant_eigenvalue(subject: Subject, matrix: Matrix = "hessian") -> float:
    """The eigenvalue of the largest modulus with its sign, to which a power iteration converges."""
    highest = reference_eigenvalue(subject, matrix)
    modulus = reference_eigenvalue(subject, matrix, magnitude=True)
    return highest if modulus <= abs(highest) * (1 + 1e-9) else -modulus


def fisher_to_ggn(subject: Subject) -> float:
    """The factor from a library's Fisher matrix to the Gauss-Newton matrix of the subject's loss.

    It is 1 for cross entropy. For mse, the mean over the C outputs, it is 2 / C: as a likelihood that has variance
    C / 2, and the libraries' has variance 1.
    """
    return 1.0 if subject.criterion.kind == "cross_entropy" else 2.0 / subject.classes
