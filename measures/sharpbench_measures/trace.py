"""Trace of the Hessian: the sum of the curvatures of the loss along all parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from sharpbench import Estimate, InvalidInput, Measure, NotApplicable, Subject
from sharpbench.contract import Invariance
from sharpbench.curvature import DENSE_LIMIT, exact_traces, hutchinson_trace, reference_traces


@dataclass(frozen=True)
class Trace(Measure):
    """tr H of the mean loss over all parameters under measurement, biases included, natural log.

    method:
        exact: sum_b tr J_b^T Lambda J_b through a square root of the output Hessian Lambda (Proposition 1),
            C - 1 backward passes; the Hessian's trace where every block is piecewise affine.
        naive: one Hessian-vector product a parameter, by the definition; small networks only.
        hutchinson: (1/m) sum v^T H v over `samples` random sign vectors v, with its standard error.
    """

    name: ClassVar[str] = "trace"
    title: ClassVar[str] = "trace of the Hessian"
    source: ClassVar[str] = "Ibayashi, Hamaguchi, Imaizumi 2021, Minimum Sharpness, Proposition 1; Hutchinson 1990"
    method: Literal["exact", "naive", "hutchinson"] = "exact"
    samples: int = 100

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise InvalidInput(f"samples={self.samples} must be at least 2, or there is no standard error")

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic unless method=hutchinson."""
        if self.method == "hutchinson":
            return hutchinson_trace(subject, samples=self.samples, generator=generator)
        if self.method == "exact":
            traces = subject.once(exact_traces)
        elif subject.size > DENSE_LIMIT:
            raise NotApplicable(
                f"{subject.size:,} parameters are too many for one Hessian-vector product each; "
                f"the bound is {DENSE_LIMIT:,}, use method=exact"
            )
        else:
            traces = reference_traces(subject)
        return Estimate(sum(traces.values()), parts=traces, details={"method": self.method})

    def exact(self, subject: Subject) -> float | None:
        """The naive trace, or for large networks the exact one, in the subject's precision."""
        return sum(reference_traces(subject).values())

    def invariances(self) -> frozenset[Invariance]:
        """A layer's block scales with the inverse square of its factor: none but permutations."""
        return frozenset({"permutation"})
