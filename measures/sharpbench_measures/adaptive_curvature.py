"""Largest eigenvalue and trace of the Hessian in units of the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from sharpbench import Estimate, Invariance, Measure, NotApplicable, Subject
from sharpbench.curvature import (
    BUDGET,
    DENSE_LIMIT,
    MATRIX_LIMIT,
    PRECISION,
    adaptive_traces_by_example,
    certificate,
    check_lanczos,
    check_precision,
    flatten,
    leading_eigenvalue,
    linear_operator,
    mean_estimate,
    reference_diagonal,
    reference_eigenvalue,
    scaled_operator,
    trace_estimate,
)

BIBTEX = """@inproceedings{andriushchenko2023modern,
  title = {A Modern Look at the Relationship between Sharpness and Generalization},
  author = {Andriushchenko, Maksym and Croce, Francesco and M{\\"u}ller, Maximilian and Hein, Matthias and
            Flammarion, Nicolas},
  booktitle = {International Conference on Machine Learning},
  year = {2023}
}"""
SOURCE = (
    "Andriushchenko, Croce, Mueller, Hein, Flammarion 2023, A Modern Look at the Relationship between Sharpness and "
    "Generalization, adaptive sharpness in the limit of a small radius"
)


@dataclass(frozen=True)
class AdaptiveSpectral(Measure):
    """lambda_max(D H D), D = diag(|theta|), H the Hessian of the mean loss, biases included.

    Times rho^2 / 2 it is the worst-case adaptive sharpness of a small radius rho at a minimum of a smooth loss. On
    piecewise affine networks, whose loss has kinks, practical radii do not reach that limit. Rescalings that keep the
    function do not change the matrix. Weights that are 0 are frozen: their rows are 0.
    tolerance, steps, details and cost: as for `top-eigenvalue`.
    """

    name: ClassVar[str] = "adaptive-spectral"
    title: ClassVar[str] = "largest eigenvalue in units of the weights"
    family: ClassVar[str] = "rescaled curvature"
    source: ClassVar[str] = SOURCE
    definition: ClassVar[str] = "lambda_max(diag(|theta|) H diag(|theta|))"
    reduction: ClassVar[str] = "mean over examples"
    penalised: ClassVar[bool] = True
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "about 10 to 50 products of some 3 gradients each"
    bibtex: ClassVar[str] = BIBTEX
    oracle_limit: ClassVar[int | None] = MATRIX_LIMIT
    matrix: Literal["hessian", "gauss-newton"] = "hessian"
    tolerance: float = 1e-4
    steps: int = 100

    def __post_init__(self) -> None:
        check_lanczos(self.tolerance, self.steps)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; only its start is random."""
        operator = scaled_operator(linear_operator(subject, self.matrix), flatten(subject.params).abs())
        return leading_eigenvalue(operator, generator=generator, tolerance=self.tolerance, steps=self.steps)

    def exact(self, subject: Subject) -> float | None:
        """From all eigenvalues of the dense matrix; for large networks by another solver on the same products."""
        return reference_eigenvalue(subject, self.matrix, scale=flatten(subject.params).abs())

    def invariances(self) -> frozenset[Invariance]:
        """All rescalings and permutations."""
        return frozenset({"layer", "unit", "element", "permutation"})


@dataclass(frozen=True)
class AdaptiveTrace(Measure):
    """sum_j theta_j^2 H_jj = tr(D H D), D = diag(theta), H the Hessian of the mean loss, biases included.

    Times rho^2 / 2 it is the average-case adaptive sharpness of a small radius rho, without sampling.

    method:
        auto: exact where the network is certified piecewise affine in each parameter; elsewhere the exact
            Gauss-Newton share plus the remainder from joint probes of the parameters without a certificate.
        exact: never samples; without a certificate one product per parameter, only for small networks.
    precision, budget: as for `trace`. Cost: that of the exact diagonal, and two to four gradients per product.
    """

    name: ClassVar[str] = "adaptive-trace"
    title: ClassVar[str] = "trace of the Hessian in units of the weights"
    family: ClassVar[str] = "rescaled curvature"
    source: ClassVar[str] = SOURCE
    version: ClassVar[int] = 5  # exact where samples would take longer
    definition: ClassVar[str] = "sum_j theta_j^2 H_jj"
    reduction: ClassVar[str] = "mean over examples"
    penalised: ClassVar[bool] = True
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "C - 1 backward passes where exact; two to four gradients per product where sampled"
    bibtex: ClassVar[str] = BIBTEX
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    method: Literal["auto", "exact"] = "auto"
    precision: float = PRECISION
    budget: int = BUDGET

    def __post_init__(self) -> None:
        check_precision(self.precision, self.budget)

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic where nothing is sampled."""
        found = self._exact(subject) if self.method == "exact" else self._sampled(subject, generator)
        return replace(found, details={**found.details, "matrix": "hessian"})

    def _sampled(self, subject: Subject, generator: torch.Generator) -> Estimate:
        found = trace_estimate(
            subject, generator=generator, precision=self.precision, budget=self.budget, scale=subject.params
        )
        details = {("gauss-newton" if key == "ggn-trace" else key): value for key, value in found.details.items()}
        return replace(found, details=details)

    def _exact(self, subject: Subject) -> Estimate:
        obstacles = [found for found in subject.once(certificate).values() if found]
        if not obstacles:
            return mean_estimate(subject, subject.once(adaptive_traces_by_example), method="exact")
        if subject.size <= DENSE_LIMIT:
            parts = _weighted(subject, subject.once(reference_diagonal))
            return Estimate(sum(parts.values()), parts=parts, details={"method": "naive"})
        operators = sorted({operator for found in obstacles for operator in found})
        raise NotApplicable(f"no exact trace: not piecewise affine through {', '.join(operators)}; use method=auto")

    def exact(self, subject: Subject) -> float | None:
        """The sum over the reference diagonal; None if that is of another matrix."""
        if subject.size > DENSE_LIMIT and any(subject.once(certificate).values()):
            return None
        return sum(_weighted(subject, subject.once(reference_diagonal)).values())

    def invariances(self) -> frozenset[Invariance]:
        """All rescalings; permutations only if nothing is sampled, as they change the random directions' effect."""
        rescalings: frozenset[Invariance] = frozenset({"layer", "unit", "element"})
        return rescalings | {"permutation"} if self.method == "exact" else rescalings


def _weighted(subject: Subject, diagonal: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float((diagonal[name] * value.square()).sum()) for name, value in subject.params.items()}
