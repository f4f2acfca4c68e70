"""Truth: our own references of what the libraries say that they compute."""

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


def trace(subject: Subject, matrix: Matrix) -> float | None:
    """The trace by the definition; of the Hessian None for large networks that are not piecewise affine."""
    if matrix == "gauss-newton":
        return sum(reference_ggn_traces(subject).values())
    if subject.size > DENSE_LIMIT and any(subject.once(certificate).values()):
        return None
    return sum(reference_traces(subject).values())


def dominant_eigenvalue(subject: Subject, matrix: Matrix = "hessian") -> float:
    """The eigenvalue of the largest modulus, with its sign: what a power iteration converges to."""
    highest = reference_eigenvalue(subject, matrix)
    modulus = reference_eigenvalue(subject, matrix, magnitude=True)
    return highest if modulus <= abs(highest) * (1 + 1e-9) else -modulus


def unit_variance(subject: Subject) -> float:
    """By how much the Gauss-Newton matrix of the subject's loss exceeds the Fisher matrix of a library.

    1 for cross entropy. For mse, the mean over the C outputs, 2 / C: as a likelihood it has variance C / 2, and the
    libraries' has 1.
    """
    return 1.0 if subject.criterion.kind == "cross_entropy" else 2.0 / subject.classes
