"""The paper's algorithm for the trace of the Hessian, implemented from its definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sharpbench import Estimate, InvalidInput, Invariance, NotApplicable, Quantity, Subject
from sharpbench.curvature import DENSE_LIMIT, per_example_traces
from sharpbench_peers.citations import IBAYASHI
from sharpbench_peers.handover import check_finite, handover
from sharpbench_peers.library import Library
from sharpbench_peers.peer import Peer
from sharpbench_peers.references import reference_trace

PAPER = Library("the paper's algorithm", "sharpbench", "sharpbench")


@dataclass(frozen=True)
class PaperTrace(Peer):
    """sum_b (1/n) sum_i (sum_k p_k |d f_k / d theta_b|^2 - |d log Z / d theta_b|^2), Proposition 1.

    It takes C + 1 passes, forms every example's gradient, and ends with a subtraction that loses digits in float32 if
    the network is confident. It is the trace of the Hessian if the network is piecewise affine in each parameter, else
    that of the Gauss-Newton matrix. For linear layers on [B, in] and convolutions, each used once, under cross entropy;
    as in its authors' code, a layer that is used twice gives a wrong value and is not refused.
    """

    name: ClassVar[str] = "paper-trace"
    title: ClassVar[str] = "trace of the Hessian by the paper's C + 1 per-example passes"
    family: ClassVar[str] = "curvature"
    source: ClassVar[str] = "Ibayashi, Hamaguchi, Imaizumi 2021, Minimum Sharpness, Proposition 1"
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    definition: ClassVar[str] = "tr H = (1/n) sum_i (sum_k p_k |grad f_k|^2 - |grad log Z|^2)"
    reduction: ClassVar[str] = "mean over examples, natural logarithm; sum over parameters"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "C + 1 backward passes, and the gradient of every example in each"
    bibtex: ClassVar[str] = IBAYASHI
    quantity: ClassVar[Quantity | None] = "trace"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        if subject.criterion.kind != "cross_entropy":
            raise NotApplicable(f"Proposition 1 is of cross entropy, not {subject.criterion.title}")
        with handover(subject, PAPER, generator=None) as given:
            inputs = torch.cat([inputs for inputs, _ in given.batches])
            try:
                parts = per_example_traces(given.module, inputs, batch_size=subject.batch_size)
            except InvalidInput as error:
                raise NotApplicable(f"{PAPER.title}: {error}") from error
        parts = {name.removeprefix("."): part for name, part in parts.items()}  # the module may itself be a layer
        if missing := sorted(subject.params.keys() - parts.keys()):
            raise NotApplicable(f"{PAPER.title} has no formula for {', '.join(missing)[:200]}")
        parts = {name: parts[name] for name in subject.params}
        return Estimate(check_finite(sum(parts.values()), PAPER), parts=parts)

    def exact(self, subject: Subject) -> float | None:
        """The trace of the Hessian by its definition."""
        return reference_trace(subject, "hessian")

    def invariances(self) -> frozenset[Invariance]:
        """Only orthogonal rewrites."""
        return frozenset({"permutation", "attention-rotation"})
