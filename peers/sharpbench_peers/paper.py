"""The paper's own algorithm for the trace of the Hessian, written from its definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sharpbench import Estimate, InvalidInput, Invariance, NotApplicable, Quantity, Subject
from sharpbench.curvature import DENSE_LIMIT, per_example_traces
from sharpbench_peers import truth
from sharpbench_peers.citations import IBAYASHI
from sharpbench_peers.handover import finite, handover
from sharpbench_peers.library import Library
from sharpbench_peers.peer import Peer

PAPER = Library("the paper's algorithm", "sharpbench", "sharpbench")


@dataclass(frozen=True)
class PaperTrace(Peer):
    """sum_b (1/n) sum_i (sum_k p_k |d f_k / d theta_b|^2 - |d log Z / d theta_b|^2), Proposition 1 as it stands.

    C + 1 passes, every example's gradient formed, a subtraction at the end that costs digits in float32 where the
    network is confident. The trace of the Hessian where the network is piecewise affine in each parameter, of the
    Gauss-Newton matrix elsewhere. For linear layers on [B, in] and convolutions, each used once, under cross entropy;
    as with its authors' code, a layer used twice is computed wrongly and not refused.
    """

    name: ClassVar[str] = "paper-trace"
    title: ClassVar[str] = "trace of the Hessian by the paper's C + 1 per-example passes"
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
            raise NotApplicable(f"Proposition 1 is of cross entropy, not {subject.criterion.name}")
        with handover(subject, PAPER, generator=None) as given:
            inputs = torch.cat([inputs for inputs, _ in given.batches])
            try:
                parts = per_example_traces(given.module, inputs, batch_size=subject.batch_size)
            except InvalidInput as error:
                raise NotApplicable(f"{PAPER.title}: {error}") from error
        parts = {name.removeprefix("."): part for name, part in parts.items()}  # of a module that is itself a layer
        if missing := sorted(subject.params.keys() - parts.keys()):
            raise NotApplicable(f"{PAPER.title} has no formula for {', '.join(missing)[:200]}")
        parts = {name: parts[name] for name in subject.params}
        return Estimate(finite(sum(parts.values()), PAPER), parts=parts)

    def exact(self, subject: Subject) -> float | None:
        """The trace of the Hessian by its definition."""
        return truth.trace(subject, "hessian")

    def invariances(self) -> frozenset[Invariance]:
        """Orthogonal rewrites alone."""
        return frozenset({"permutation", "attention-rotation"})
