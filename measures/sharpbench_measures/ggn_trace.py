"""Trace of the Gauss-Newton matrix, the part of the Hessian that comes from the curvature of the loss by the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from sharpbench import Estimate, InvalidInput, Invariance, Measure, NotApplicable, Quantity, Subject
from sharpbench.curvature import (
    DENSE_LIMIT,
    MAX_EXACT_COLUMNS,
    check_precision,
    check_samples,
    count_columns,
    exact_diagonal,
    ggn_trace_estimate,
    has_sketch,
    hutchinson_diagonal,
    hutchinson_trace,
    mean_estimate,
    reference_ggn_traces,
    sketched_diagonal,
    sketched_traces,
    traces_by_example,
)
from sharpbench_measures.citations import HUTCHINSON, IBAYASHI
from sharpbench_measures.trace import MIN_PRODUCTS, PROJECTED, projected


@dataclass(frozen=True)
class GgnTrace(Measure):
    """tr G, G = (1/n) sum_i J_i^T Lambda_i J_i, over all parameters under measurement, biases included.

    Lambda_i is the Hessian of example i's loss by its logits, J_i the Jacobian of those. For cross entropy G is the
    Fisher matrix and never negative; it is the Hessian's diagonal blocks where the network is certified piecewise
    affine. Defined, and exact, for every network.

    method:
        exact: sum_b tr J_b^T Lambda J_b through a square root of Lambda; never samples. C - 1 backward passes at each
            position of an example, one for each entry under losses of single entries.
        sketch: for many columns: `columns` random ones per example, sums over all its positions, unbiased, with
            standard error, interval and details.upper. Of one label an example, `top` exact columns in addition, and
            details.lower.
        auto: exact up to 1,024 columns an example, above that the sketch; with a precision whichever reaches it with
            fewer passes, with as many random columns as that takes. details.method and details.columns say which.
        hutchinson, hutchpp, xtrace: from `samples` products of G with random sign vectors, with standard errors.
    precision: for auto and hutchinson: the ends of the 95 % interval are within this share of the value.
    """

    name: ClassVar[str] = "ggn-trace"
    title: ClassVar[str] = "trace of the Gauss-Newton matrix"
    family: ClassVar[str] = "curvature"
    source: ClassVar[str] = (
        "Schraudolph 2002, Fast curvature matrix-vector products, section 3; Ibayashi, Hamaguchi, Imaizumi 2021, "
        "Minimum Sharpness, Proposition 1; Hutchinson 1990"
    )
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    definition: ClassVar[str] = "tr G = (1/n) sum_i tr J_i^T Lambda_i J_i"
    reduction: ClassVar[str] = "mean over examples, natural logarithm; sum over parameters"
    penalised: ClassVar[bool] = True
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = (
        "C - 1 backward passes per position where exact; top + columns with method=sketch; three gradients per probe "
        "where sampled"
    )
    bibtex: ClassVar[str] = (
        IBAYASHI
        + HUTCHINSON
        + """\
@article{schraudolph2002fast,
  title   = {Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent},
  author  = {Schraudolph, Nicol N.},
  journal = {Neural Computation},
  volume  = {14},
  number  = {7},
  pages   = {1723--1738},
  year    = {2002}
}
"""
    )
    quantity: ClassVar[Quantity | None] = "trace"
    contests: ClassVar[tuple[str, ...]] = (
        "",
        "method=hutchinson,samples=100",
        "method=hutchpp,samples=99",
        "method=xtrace,samples=100",
    )
    method: Literal["exact", "auto", "sketch", "hutchinson", "hutchpp", "xtrace"] = "exact"
    samples: int = 100
    top: int = 10
    columns: int = 4
    precision: float | None = None

    def __post_init__(self) -> None:
        if self.precision is not None and self.method not in ("auto", "hutchinson"):
            raise InvalidInput(f"precision={self.precision} goes with method=auto or hutchinson, not {self.method}")
        sampled = self.precision if self.method == "hutchinson" else None
        check_samples(self.samples, sampled, least=MIN_PRODUCTS.get(self.method, 2))
        check_precision(1.0 if self.precision is None else self.precision)
        if self.top < 1 or not 2 <= self.columns <= 1000:
            raise InvalidInput(f"top={self.top}, columns={self.columns}: need top >= 1 and 2 <= columns <= 1000")

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic with method=exact."""
        if self.method == "auto" and self.precision is not None:
            return ggn_trace_estimate(subject, generator=generator, precision=self.precision)
        method = self._chosen(subject) if self.method == "auto" else self.method
        if method == "exact":
            return mean_estimate(subject, subject.once(traces_by_example), method="exact")
        if method == "sketch":
            self._require_sketch(subject)
            return sketched_traces(subject, generator=generator, top=self.top, columns=self.columns)
        if self.method in PROJECTED:
            return projected(self.method, subject, samples=self.samples, generator=generator, kind="gauss-newton")
        return hutchinson_trace(
            subject, samples=self.samples, generator=generator, kind="gauss-newton", precision=self.precision
        )

    def _require_sketch(self, subject: Subject) -> None:
        if not has_sketch(subject):
            raise NotApplicable(f"the loss '{subject.criterion.name}' has no sketch; use method=exact or hutchinson")
        if subject.criterion.kind == "cross_entropy" and subject.classes < self.top + 2:
            raise NotApplicable(
                f"no sketch of {subject.classes} outputs: needs at least top + 2 = {self.top + 2} classes; use "
                "method=exact"
            )

    def _chosen(self, subject: Subject) -> str:
        many = count_columns(subject) > MAX_EXACT_COLUMNS
        return "sketch" if many and has_sketch(subject) else "exact"

    def exact(self, subject: Subject) -> float | None:
        """By the definition, one Jacobian-vector product per parameter; above the limit the engine in float64."""
        return sum(reference_ggn_traces(subject).values())

    def diagonal_entries(self, subject: Subject, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Exact, or from random columns with method=sketch, or from `samples` products with method=hutchinson."""
        method = self._chosen(subject) if self.method == "auto" else self.method
        if method == "sketch":
            self._require_sketch(subject)
            return sketched_diagonal(subject, generator=generator, top=self.top, columns=self.columns).values
        if method == "exact":
            return subject.once(exact_diagonal)
        if self.method == "hutchinson":
            found = hutchinson_diagonal(subject, samples=self.samples, generator=generator, kind="gauss-newton")
            return found.values
        raise NotApplicable(f"method={self.method} estimates only a sum; use method=exact or hutchinson")

    def invariances(self) -> frozenset[Invariance]:
        """As for the Hessian's trace: orthogonal rewrites, if nothing is drawn in the space of the parameters."""
        return frozenset({"permutation", "attention-rotation"} if self.method in ("exact", "auto", "sketch") else ())
