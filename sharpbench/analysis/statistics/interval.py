"""Interval: two numbers between which the truth is expected, and how one is built around a correlation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import t as student

LEVEL = 0.95
ROUNDING = 1e-12  # what is below it is a zero that was added up; a real variance is above 1 / n^3


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval, both ends included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def student_quantile(freedom: int) -> float:
    """Student's t for a two-sided 95 % interval."""
    return float(student.ppf((1 + LEVEL) / 2, freedom))


def correlation_interval(value: float, variance: float, *, freedom: int, networks: int) -> Interval:
    """The interval of a `value` in [-1, 1]: Student's t on the scale of atanh.

    A variance of 0 does not mean certainty, only that no network of a cell changed anything: then Wilson's
    interval, all r with |value - r| within the quantile at the variance (1 - r^2) / (2 networks), which is
    tau's own where nothing is related (4/9 instead of 1/2) and more than tau's where nearly everything is.
    """
    limit = student_quantile(freedom)
    if _regular(value, variance):
        centre, reach = math.atanh(value), limit * math.sqrt(variance) / (1 - value**2)
        return Interval(math.tanh(centre - reach), math.tanh(centre + reach))
    ratio = limit**2 / (2 * networks)
    reach = math.sqrt(ratio * (1 + ratio - value**2))
    return Interval((value - reach) / (1 + ratio), (value + reach) / (1 + ratio))


def p_value(value: float, variance: float, *, freedom: int, networks: int) -> float:
    """Two-sided, against 0; below 5 % where 0 lies outside of `correlation_interval`, which has the same arguments."""
    if _regular(value, variance):
        distance = abs(math.atanh(value)) * (1 - value**2) / math.sqrt(variance)
    else:
        distance = abs(value) * math.sqrt(2 * networks)
    return float(2 * student.sf(distance, freedom))


def _regular(value: float, variance: float) -> bool:
    return variance > ROUNDING and abs(value) < 1
