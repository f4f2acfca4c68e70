"""Confidence intervals of correlations, by Student's t on the scale of atanh."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import ndtr, ndtri, stdtr, stdtrit

from sharpbench.analysis.statistics.uncertainty import ROUNDING, Uncertainty

LEVEL = 0.95
_NORMAL_QUANTILE = float(ndtri((1 + LEVEL) / 2))
_NEARLY_ONE = 1 - 1e-12
"""The scale of atanh ends here."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % confidence interval, both ends included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


SKEWNESS = 8.0
"""The end of an interval towards 0 is farther away by this times |r| / networks: a correlation that is too large by
chance is also estimated with too small a variance. Chosen by simulation, see docs/protocol.md."""
MAX_VARIANCE = 2.0
"""The variance of Kendall's tau is at most this times (1 - tau^2) / n (Kendall, Rank Correlation Methods)."""


def correlation_interval(value: float, known: Uncertainty, *, skewness: float = SKEWNESS) -> Interval:
    """The 95 % interval of a `value` in [-1, 1]: Student's t on the scale of atanh, longer on the side of 0.

    Differences of two correlations are not skewed where both are equal: their `skewness` is 0.

    It ends where Wilson's interval for the largest variance that a tau can have, 2 (1 - r^2) / networks, ends: near a
    perfect order few networks tell of the variance, and Student's interval by itself may reach below 0.

    A variance of 0 does not mean certainty, only that no network of a cell changed anything. The interval is then
    Wilson's for the variance (1 - r^2) / networks. Where a measure fails on a few networks, and by chance on none of
    these, that still holds the expected value.
    """
    return widen_interval(value, _interval_over_networks(value, known, skewness=skewness), known.further)


def _interval_over_networks(value: float, known: Uncertainty, *, skewness: float) -> Interval:
    limit = _quantile(known.freedom)
    if not _regular(value, known):
        return _wilson(value, limit**2 / known.networks)
    centre, reach = math.atanh(value), limit * math.sqrt(known.variance) / (1 - value**2)
    inward = reach * (math.copysign(1.0, value) + skewness * value / known.networks)
    ends = sorted((centre - inward, centre + math.copysign(reach, value)))
    widest = _wilson(value, MAX_VARIANCE * _quantile(_most_freedom(known)) ** 2 / known.networks)
    return Interval(max(math.tanh(ends[0]), widest.low), min(math.tanh(ends[1]), widest.high))


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
    """The two-sided p against 0; below 5 % where 0 is outside `correlation_interval` of these and of skewness 0."""
    p = _p_over_networks(value, known)
    if not known.further or not 0 < abs(value) < 1:
        return p
    reach = math.atanh(abs(value)) - _bounded_atanh(_interval_over_networks(abs(value), known, skewness=0.0).low)
    spread = math.hypot(reach / _NORMAL_QUANTILE, math.sqrt(known.further) / (1 - value**2))
    return max(p, 2 * float(ndtr(-math.atanh(abs(value)) / spread)))


def _p_over_networks(value: float, known: Uncertainty) -> float:
    if not _regular(value, known):
        return 2 * _tail(abs(value) * math.sqrt(known.networks), known.freedom)
    distance = abs(math.atanh(value)) * (1 - value**2) / math.sqrt(known.variance)
    widest = abs(value) * math.sqrt(known.networks / MAX_VARIANCE)
    return 2 * min(_tail(distance, known.freedom), _tail(widest, _most_freedom(known)))


def _bounded_atanh(value: float) -> float:
    return math.atanh(max(-_NEARLY_ONE, min(_NEARLY_ONE, value)))


def _wilson(value: float, ratio: float) -> Interval:
    """All r with (value - r)^2 <= ratio (1 - r^2)."""
    reach = math.sqrt(ratio * (1 + ratio - value**2))
    return Interval((value - reach) / (1 + ratio), (value + reach) / (1 + ratio))


def _quantile(freedom: float) -> float:
    return float(stdtrit(freedom, (1 + LEVEL) / 2))  # scipy.stats.t costs fifty times as much for one number


def _tail(value: float, freedom: float) -> float:
    """The probability that Student's t exceeds `value`."""
    return float(stdtr(freedom, -value))


def _most_freedom(known: Uncertainty) -> float:
    """Degrees of freedom where the variance is bounded rather than estimated."""
    return max(known.freedom, known.networks - 2)


def _regular(value: float, known: Uncertainty) -> bool:
    return known.variance > ROUNDING and abs(value) < 1
