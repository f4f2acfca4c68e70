"""Stratified sampling: a sum of means to a precision, each estimated by as many samples as its spread deserves.

Each stratum's samples are two halves, and the size of a half follows from the spread of the other half. If it followed
from its own, skewed samples would bias the mean: low values have a small spread, after which few others are added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpbench.curvature.confidence import FEW, PILOT, MeanEstimate, mean_of

GROWTH = 3
"""No round adds more than this multiple of a stratum's samples, so that luck in the first ones does not decide."""
STEP = 2
"""A half's samples are drawn in multiples of this number: a single one takes nearly as long."""
MARGIN = 1.1
"""Samples are planned for a standard error that is smaller than needed by this factor's root."""
QUANTILE = 1.96
"""Half the width of a 95 % interval, in standard errors."""


@dataclass(frozen=True, slots=True, eq=False)
class Stratum:
    """cost: of one sample. draw: gives independent samples [m, parts], float64, whose rows are summed."""

    cost: float
    draw: Callable[[int], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """halves: samples [m, parts], two of every stratum in turn. total: the estimate of the sum. cost: of all samples.

    exact_instead: sampling was given up, as it would cost more than the limit at which the exact value can be had.
    """

    halves: list[Tensor]
    total: MeanEstimate
    cost: float
    exact_instead: bool = False

    @property
    def drawn(self) -> int:
        """The number of samples."""
        return sum(len(each) for each in self.halves)

    def means(self) -> Tensor:
        """The estimates [parts]."""
        return torch.stack([each.mean(0) for each in self.halves]).sum(0) / 2

    def stderrs(self) -> Tensor:
        """Their standard errors [parts]."""
        return torch.stack([each.var(0) / len(each) for each in self.halves]).sum(0).sqrt() / 2


def sample_strata(
    strata: Sequence[Stratum], *, known: float, precision: float, budget: float, exact_cost: float = math.inf
) -> Sampled:
    """Samples of all strata, until both ends of the 95 % interval of known + their sum are within the precision.

    After PILOT samples each the rest is planned: the least cost that reaches the precision has samples in proportion
    to a stratum's standard deviation over the root of its cost (Neyman 1934), as the other half shows it.

    Args:
        known: the part of the total that is not sampled.
        precision: of the total, relative.
        budget: the cost at which the precision is given up.
        exact_cost: that of the exact value; sampling ends where its plan is dearer.
    """
    halves = [half for each in strata for half in each.draw(PILOT).split(PILOT // 2)]
    costs = [each.cost for each in strata for _ in range(2)]
    while True:
        total = mean_of([each.sum(1) / 2 for each in halves], known)
        spent = sum(len(each) * cost for each, cost in zip(halves, costs, strict=True))
        if total.within(precision):
            return Sampled(halves, total, spent)
        wanted = _plan(halves, costs, precision * abs(total.value) / QUANTILE)
        lacking = [max(0, count - len(each)) for count, each in zip(wanted, halves, strict=True)]
        planned = sum(count * cost for count, cost in zip(lacking, costs, strict=True))
        if min(planned, budget) >= exact_cost:
            return Sampled(halves, total, spent, exact_instead=True)
        more = [
            STEP * math.ceil(min(count, GROWTH * len(each)) / STEP) for count, each in zip(lacking, halves, strict=True)
        ]
        if not any(more):  # the interval is wider than the standard error says, for few degrees of freedom
            more = [STEP for _ in halves]
        share = min(1.0, max(0.0, budget - spent) / sum(count * cost for count, cost in zip(more, costs, strict=True)))
        more = [math.floor(share * count) for count in more]
        if not any(more):
            return Sampled(halves, total, spent)
        for place, stratum in enumerate(strata):
            counts = more[2 * place : 2 * place + 2]
            if any(counts):
                drawn = stratum.draw(sum(counts)).split(counts)
                for half, new in zip((2 * place, 2 * place + 1), drawn, strict=True):
                    halves[half] = torch.cat((halves[half], new))


def _plan(halves: Sequence[Tensor], costs: Sequence[float], stderr: float) -> list[float]:
    """How many samples of each half reach this standard error at the least cost, by the spread of the other halves."""
    own = [float(each.sum(1).std()) / 2 for each in halves]
    deviations = [own[place ^ 1] for place in range(len(own))]
    effort = sum(deviation * math.sqrt(cost) for deviation, cost in zip(deviations, costs, strict=True))
    square = stderr**2
    least = MARGIN * effort / square if square else math.inf
    return [
        max(FEW // 2 if len(halves) == 2 else 0, math.ceil(least * deviation / math.sqrt(cost)) if deviation else 0)
        if math.isfinite(least)
        else math.inf
        for deviation, cost in zip(deviations, costs, strict=True)
    ]
