"""Power: the smallest difference of two measures that a population could have shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from sharpbench.analysis.statistics.interval import LEVEL

if TYPE_CHECKING:
    from sharpbench.analysis.statistics.ranking import RankComparison

POWER = 0.8
"""The probability with which a difference is shown."""
MAX_DIFFERENCE = 2.0
"""Two taus differ by no more."""


def detectable_difference(error: float, freedom: float, comparisons: int) -> float:
    """The true difference of two taus that is a discovery in 80 % of populations like this one.

    It is error (t(1 - a/2) + t(0.8)) with quantiles of Student's t. a is the p-value that the smallest of the
    comparisons needs at a false discovery rate of 5 % by Benjamini and Yekutieli, 0.05 / (m (1 + 1/2 + ... + 1/m)):
    that of a difference which is the only one. Where others differ also, less is enough.

    Args:
        error: the standard error of the difference.
        freedom: the degrees of freedom of its variance.
        comparisons: m, the number of comparisons on the board.
    """
    threshold = (1 - LEVEL) / (comparisons * float(np.sum(1 / np.arange(1, comparisons + 1))))
    quantiles = stdtrit(freedom, [1 - threshold / 2, POWER])
    return min(MAX_DIFFERENCE, error * float(quantiles.sum()))


def median_detectable(found: Sequence[RankComparison]) -> float | None:
    """The median over the comparisons of a board of `detectable_difference`; None without a comparison.

    Comparisons of measures that order the networks alike have no error and are left out.
    """
    known = [detectable_difference(each.error, each.freedom, len(found)) for each in found if each.error > 0]
    return float(np.median(known)) if known else None
