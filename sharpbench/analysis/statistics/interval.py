"""Confidence intervals of correlations, by Student's t on the scale of atanh."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import t as student

LEVEL = 0.95
ROUNDING = 1e-12  # a smaller sum is a zero with rounding; a real variance is above 1 / n^3


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
    """The 95 % interval of a `value` in [-1, 1]: Student's t on the scale of atanh.

    A variance of 0 does not mean certainty, only that no network of a cell changed anything. The interval is then
    Wilson's: all r with |value - r| within the quantile at the variance (1 - r^2) / (2 networks). That variance is
    about tau's own where nothing is related (1/2 instead of 4/9), and larger than tau's near a perfect order.
    """
    limit = student_quantile(freedom)
    if _regular(value, variance):
        centre, reach = math.atanh(value), limit * math.sqrt(variance) / (1 - value**2)
        return Interval(math.tanh(centre - reach), math.tanh(centre + reach))
    ratio = limit**2 / (2 * networks)
    reach = math.sqrt(ratio * (1 + ratio - value**2))
    return Interval((value - reach) / (1 + ratio), (value + reach) / (1 + ratio))


def p_value(value: float, variance: float, *, freedom: int, networks: int) -> float:
    """The two-sided p against 0; it is below 5 % where 0 is outside `correlation_interval` of the same arguments."""
    if _regular(value, variance):
        distance = abs(math.atanh(value)) * (1 - value**2) / math.sqrt(variance)
    else:
        distance = abs(value) * math.sqrt(2 * networks)
    return float(2 * student.sf(distance, freedom))


def _regular(value: float, variance: float) -> bool:
    return variance > ROUNDING and abs(value) < 1
