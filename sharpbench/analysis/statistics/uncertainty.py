"""How uncertain a statistic is: its variance, degrees of freedom, and the networks that it rests on.

In cells of unequal size a few networks decide most of the variance, and their own scatter is a poor estimate of it.
Bounds keep the intervals honest; in cells of equal size and spread they change little:

- The variance is at least what the cells give together: one variance a network for all cells, pooled with the cells'
  degrees of freedom, in the weights of the statistic.
- The degrees of freedom are at most Welch's for these weights and equal spread, Welch's for the estimated variances
  of the cells (Welch 1947), and those that belong to the kurtosis of the networks' influence: where one network
  decides the variance, it is known with one degree of freedom.
- They count by the share of the compared pairs that no tie takes away. One is taken off because they are estimated,
  and at least two from those of equal spread.

These were chosen by simulation; docs/protocol.md says how often intervals cover with and without them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sharpbench.analysis.statistics.jackknife import Floats, Integers

# Subtracting the whole excess is unbiased, but the estimate scatters, and 95 % intervals then cover 89 to 99 %. With
# half of it they cover 93.5 to 99.4 % (docs/protocol.md).
EXCESS_CORRECTION = 0.5
"""The share of the excess that is subtracted."""
MIN_SHARE = 0.25
"""Of the jackknife; in expectation the true share is larger for cells of 3 or more."""
ROUNDING = 1e-12  # a smaller sum is a zero with rounding; a real variance is above 1 / n^3
MIN_FREEDOM = 2.0
"""With one, Student's intervals are so wide that they say nothing."""


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """What an interval of a correlation is made of.

    Args:
        variance: Of the statistic; 0 where no left-out network changes it.
        freedom: Degrees of freedom of the variance, at least 2; not a whole number.
        networks: The number of networks of an equal design that would know as much.
        further: A variance that networks do not show, as that of another draw of the examples which all share.
    """

    variance: float
    freedom: float
    networks: float
    further: float = 0.0


def assess_uncertainty(
    single: Floats, excess: Floats, cells: Integers, weights: Floats, *, untied: float
) -> Uncertainty:
    """The uncertainty of a statistic.

    Args:
        single: [n] Its centred changes when a network is left out.
        excess: [K] The squared length of its excess by cell.
        cells: [n], 0 ... K-1.
        weights: [K] The share of each cell in the statistic; 0 where a cell does not enter.
        untied: The share of the compared pairs that are tied neither in the measure nor in the gap.
    """
    size = np.bincount(cells, minlength=len(weights)).astype(float)
    used = (weights > 0) & (size > 1)
    size, scale = size[used], weights[used] ** 2 / size[used]  # the variances of cells of equal spread, in proportion
    squares = np.bincount(cells, single**2, minlength=len(weights))
    jackknife, corrected = float(squares.sum()), squares - EXCESS_CORRECTION * excess
    variance = max(float(corrected.sum()), MIN_SHARE * jackknife)
    freedom = by_design = float(scale.sum() ** 2 / (scale**2 / (size - 1)).sum())
    if jackknife > ROUNDING:
        parts = (corrected + (variance - corrected.sum()) * squares / jackknife)[used]
        pooled = scale.sum() * ((size - 1) * parts / scale).sum() / (size - 1).sum()
        by_cell = parts.sum() ** 2 / (parts**2 / (size + 1)).sum() - 2
        concentration = float((single**4).sum()) / jackknife**2 - 1 / size.sum()
        by_network = 2 / max(concentration, 1 / size.sum())
        variance = max(variance, float(pooled))
        freedom = min(by_design, max(float(by_cell), float(size.min()) - 1), by_network)
    return Uncertainty(
        variance,
        max(MIN_FREEDOM, min(untied * freedom - 1, untied * float((size - 1).sum()) - 2)),
        float(size.sum() * min(1.0, by_design / (size - 1).sum())),
    )
