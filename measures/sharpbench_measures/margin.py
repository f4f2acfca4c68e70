"""The inverse squared margin of the network on the examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sharpbench import Estimate, InvalidInput, Invariance, Measure, NotApplicable, Subject
from sharpbench_measures.norms import BIBTEX, SOURCE


@dataclass(frozen=True)
class Margin(Measure):
    """1 / gamma^2, gamma the `percentile`-th percentile of the margins f_y - max_(k != y) f_k of the examples.

    The percentile is the smallest margin at or below which at least that percentage of the margins are: it depends
    only on their distribution. Not applicable if it is not positive, as the square would reverse the order.
    Cost: one forward pass. Deviation: none known; the paper takes the 10th percentile as a robust smallest margin.
    """

    name: ClassVar[str] = "margin"
    title: ClassVar[str] = "inverse squared margin"
    family: ClassVar[str] = "reference"
    source: ClassVar[str] = SOURCE
    definition: ClassVar[str] = "1 / gamma^2, gamma the 10th percentile of f_y - max_(k != y) f_k"
    reduction: ClassVar[str] = "percentile over examples"
    included: ClassVar[str] = "none: a function of the logits"
    cost: ClassVar[str] = "one forward pass"
    bibtex: ClassVar[str] = BIBTEX
    percentile: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            raise InvalidInput(f"percentile={self.percentile} must be above 0 and at most 100")

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; deterministic."""
        if subject.criterion.kind != "cross_entropy":
            raise NotApplicable(
                "margins are those of one class an example, each counting the same; there are none under "
                f"'{subject.criterion.name}'"
            )
        if subject.classes < 2:
            raise NotApplicable("a single class has no margin to another")
        margins = torch.cat([_margins(subject.apply(subject.params, x), y) for x, y in subject.batches])
        return self._inverse_square(sorted(margins.tolist()))

    def _inverse_square(self, ascending: list[float]) -> Estimate:
        if any(map(math.isnan, ascending)):
            raise ValueError("some logits are NaN")
        rank = math.ceil(round(self.percentile / 100 * len(ascending), 9))  # 0.1 * 30 is not 3
        gamma = ascending[max(1, rank) - 1]
        if not gamma > 0:
            raise NotApplicable(
                f"the {self.percentile:g}th percentile of the margins is {gamma:.4g}, not positive: too many examples "
                "are misclassified"
            )
        wrong = sum(margin <= 0 for margin in ascending) / len(ascending)
        return Estimate(gamma**-2, details={"margin": gamma, "misclassified": wrong})

    def exact(self, subject: Subject) -> float | None:
        """The margins example by example, in a loop over the classes; None if there is no other class."""
        if subject.criterion.kind != "cross_entropy" or subject.classes < 2:
            return None
        margins = []
        for example, target in subject.split():
            logits = subject.apply(subject.params, example)[0].tolist()
            margins.append(logits.pop(int(target)) - max(logits))
        return self._inverse_square(sorted(margins)).value

    def invariances(self) -> frozenset[Invariance]:
        """All rewrites that keep the function."""
        return frozenset({"layer", "unit", "element", "permutation", "attention-rotation", "attention-gl"})


def _margins(logits: Tensor, targets: Tensor) -> Tensor:
    """f_y - max_(k != y) f_k [B], float64."""
    own = logits.gather(1, targets[:, None])
    others = logits.scatter(1, targets[:, None], -math.inf)
    return (own[:, 0] - others.amax(1)).double()
