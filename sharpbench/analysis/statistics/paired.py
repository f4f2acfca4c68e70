"""The mean difference of two paired series of numbers, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import ttest_rel

from sharpbench.analysis.statistics.interval import LEVEL, Interval

MIN_PAIRS = 3
"""Pairs that the interval of a mean difference needs at least."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference, its 95 % interval, and the reason where either is missing."""

    value: float | None
    interval: Interval | None
    reason: str | None
    pairs: int


def paired_mean(one: ArrayLike, other: ArrayLike) -> Difference:
    """The mean of one - other over pairs, with Student's t interval; pairs without a number are left out.

    It assumes differences that are normal and independent from pair to pair. Where all differences are equal, their
    variance is unknown rather than zero, and there is no interval.
    """
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"pairs of shapes {first.shape} and {second.shape}; give one value of each a pair")
    whole = np.isfinite(first) & np.isfinite(second)
    differences = first[whole] - second[whole]
    pairs = len(differences)
    if not pairs:
        return Difference(None, None, "no pair has both values", 0)
    mean = math.fsum(differences) / pairs
    if pairs < MIN_PAIRS:
        return Difference(mean, None, f"{pairs} pairs, fewer than {MIN_PAIRS}", pairs)
    if np.ptp(differences) <= 1e-12 * np.abs(differences).max():
        return Difference(mean, None, "all pairs differ equally", pairs)
    found = ttest_rel(first[whole], second[whole]).confidence_interval(LEVEL)
    return Difference(mean, Interval(float(found.low), float(found.high)), None, pairs)
