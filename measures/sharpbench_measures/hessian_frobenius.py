"""Frobenius norm of the Hessian: the root of the sum of its squared eigenvalues."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from sharpbench import Estimate, Invariance, Measure, NotApplicable, Subject
from sharpbench.curvature import (
    DENSE_LIMIT,
    MATRIX_LIMIT,
    check_samples,
    dense_ggn,
    dense_hessian,
    hutchinson_squared_norm,
    hutchpp_squared_norm,
    linear_operator,
    squared_norm,
)
from sharpbench_measures.trace import MIN_PRODUCTS


@dataclass(frozen=True)
class HessianFrobenius(Measure):
    """|H|_F = sqrt(sum_jk H_jk^2) of the Hessian of the mean loss, biases included.

    method:
        hutchpp: |H Q|_F^2 + the mean of |H (I - Q Q^T) v|^2 over random signs v, Q an orthonormal basis of H
            times other random signs: a third of `samples` products each for Q, for H Q and for the mean.
        hutchinson: the mean of |H v|^2 over `samples` random sign vectors v.
            Both squares are unbiased; the root is too low by about stderr^2 / (2 value). Standard error and interval
            are propagated through the root.
        exact: one product per parameter; only for small networks.
    matrix: hessian or gauss-newton. Deviation from the paper: none in value; it samples the square within training.
    """

    name: ClassVar[str] = "hessian-frobenius"
    title: ClassVar[str] = "Frobenius norm of the Hessian"
    family: ClassVar[str] = "curvature"
    source: ClassVar[str] = (
        "Tahmasebi, Soleymani, Bahri, Jegelka, Jaillet 2024, A Universal Class of Sharpness-Aware Minimization "
        "Algorithms; Meyer, Musco, Musco, Woodruff 2021, Hutch++; Hutchinson 1990"
    )
    definition: ClassVar[str] = "|H|_F = sqrt(tr H^2) = sqrt(E_v |H v|^2), v random signs"
    reduction: ClassVar[str] = "mean over examples"
    penalised: ClassVar[bool] = True
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "`samples` products of some 3 gradients each; one product per parameter with method=exact"
    bibtex: ClassVar[str] = """@inproceedings{tahmasebi2024universal,
  title = {A Universal Class of Sharpness-Aware Minimization Algorithms},
  author = {Tahmasebi, Behrooz and Soleymani, Ashkan and Bahri, Dara and Jegelka, Stefanie and Jaillet, Patrick},
  booktitle = {International Conference on Machine Learning},
  year = {2024}
}"""
    method: Literal["hutchpp", "hutchinson", "exact"] = "hutchpp"
    matrix: Literal["hessian", "gauss-newton"] = "hessian"
    samples: int = 100

    def __post_init__(self) -> None:
        check_samples(self.samples, least=MIN_PRODUCTS.get(self.method, 2))

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic with method=exact."""
        if self.method == "exact":
            return self._exact(subject)
        estimator = hutchpp_squared_norm if self.method == "hutchpp" else hutchinson_squared_norm
        square = estimator(subject, samples=self.samples, generator=generator, kind=self.matrix)
        value = math.sqrt(square.value)
        ends = square.interval
        return Estimate(
            value,
            stderr=square.stderr / (2 * value) if value > 0 else 0.0,
            interval=None if ends is None else (math.sqrt(max(0.0, ends[0])), math.sqrt(max(0.0, ends[1]))),
            probes=self.samples,
            details={"method": self.method, "matrix": self.matrix},
        )

    def _exact(self, subject: Subject) -> Estimate:
        if subject.size > DENSE_LIMIT:
            raise NotApplicable(
                f"{subject.size:,} parameters are too many for one product each; "
                f"the bound is {DENSE_LIMIT:,}, use method=hutchpp"
            )
        value = math.sqrt(squared_norm(linear_operator(subject, self.matrix)))
        return Estimate(value, details={"method": self.method, "matrix": self.matrix})

    def exact(self, subject: Subject) -> float | None:
        """The norm of the dense matrix; None if it is too large."""
        if subject.size > MATRIX_LIMIT:
            return None
        dense = dense_hessian(subject) if self.matrix == "hessian" else dense_ggn(subject)
        return float(torch.linalg.matrix_norm(dense))

    def invariances(self) -> frozenset[Invariance]:
        """Orthogonal rewrites, if nothing is drawn in the space of the parameters."""
        return frozenset({"permutation", "attention-rotation"}) if self.method == "exact" else frozenset()
