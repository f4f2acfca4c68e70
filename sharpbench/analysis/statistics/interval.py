"""Confidence intervals of correlations, by Student's t on the scale of atanh."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.stats import norm
from scipy.stats import t as student

from sharpbench.analysis.statistics.uncertainty import ROUNDING, Uncertainty

LEVEL = 0.95
_NORMAL_QUANTILE = float(norm.ppf((1 + LEVEL) / 2))
_NEARLY_ONE = 1 - 1e-12
"""The scale of atanh ends here."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval, both ends included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


MAX_VARIANCE = 2.0
"""The variance of Kendall's tau is at most this times (1 - tau^2) / n (Kendall, Rank Correlation Methods)."""


def correlation_interval(value: float, known: Uncertainty) -> Interval:
    """The 95 % interval of a `value` in [-1, 1]: Student's t on the scale of atanh.

    It ends where Wilson's interval for the largest variance that a tau can have, 2 (1 - r^2) / networks, ends: near a
    perfect order few networks tell of the variance, and Student's interval by itself may reach below 0.

    A variance of 0 does not mean certainty, only that no network of a cell changed anything. The interval is then
    Wilson's for the variance (1 - r^2) / networks. Where a measure fails on a few networks, and by chance on none of
    these, that still holds the expected value.
    """
    return widen_interval(value, _interval_over_networks(value, known), known.further)


def _interval_over_networks(value: float, known: Uncertainty) -> Interval:
    limit = _quantile(known.freedom)
    if not _regular(value, known):
        return _wilson(value, limit**2 / known.networks)
    centre, reach = math.atanh(value), limit * math.sqrt(known.variance) / (1 - value**2)
    widest = _wilson(value, MAX_VARIANCE * _quantile(_most_freedom(known)) ** 2 / known.networks)
    return Interval(max(math.tanh(centre - reach), widest.low), min(math.tanh(centre + reach), widest.high))


def widen_interval(value: float, interval: Interval, variance: float) -> Interval:
    """The interval of `value` when a further, independent variance of it is known.

    Half-widths add in squares on the scale of atanh. A value of 1 or -1 keeps its interval, which is Wilson's.
    """
    if abs(value) >= 1:
        return interval
    centre, further = math.atanh(value), _NORMAL_QUANTILE * math.sqrt(variance) / (1 - value**2)
    low, high = (_bounded_atanh(end) for end in (interval.low, interval.high))
    return Interval(
        math.tanh(centre - math.hypot(centre - low, further)), math.tanh(centre + math.hypot(high - centre, further))
    )


def p_value(value: float, known: Uncertainty) -> float:
    """The two-sided p against 0; it is below 5 % where 0 is outside `correlation_interval` of the same arguments."""
    p = _p_over_networks(value, known)
    if not known.further or not 0 < abs(value) < 1:
        return p
    reach = math.atanh(abs(value)) - _bounded_atanh(_interval_over_networks(abs(value), known).low)
    spread = math.hypot(reach / _NORMAL_QUANTILE, math.sqrt(known.further) / (1 - value**2))
    return max(p, float(2 * norm.sf(math.atanh(abs(value)) / spread)))


def _p_over_networks(value: float, known: Uncertainty) -> float:
    if not _regular(value, known):
        return float(2 * student.sf(abs(value) * math.sqrt(known.networks), known.freedom))
    distance = abs(math.atanh(value)) * (1 - value**2) / math.sqrt(known.variance)
    widest = abs(value) * math.sqrt(known.networks / MAX_VARIANCE)
    return float(2 * min(student.sf(distance, known.freedom), student.sf(widest, _most_freedom(known))))


def _bounded_atanh(value: float) -> float:
    return math.atanh(max(-_NEARLY_ONE, min(_NEARLY_ONE, value)))


def _wilson(value: float, ratio: float) -> Interval:
    """All r with (value - r)^2 <= ratio (1 - r^2)."""
    reach = math.sqrt(ratio * (1 + ratio - value**2))
    return Interval((value - reach) / (1 + ratio), (value + reach) / (1 + ratio))


def _quantile(freedom: float) -> float:
    return float(student.ppf((1 + LEVEL) / 2, freedom))


def _most_freedom(known: Uncertainty) -> float:
    """Degrees of freedom where the variance is bounded rather than estimated."""
    return max(known.freedom, known.networks - 2)


def _regular(value: float, known: Uncertainty) -> bool:
    return known.variance > ROUNDING and abs(value) < 1
