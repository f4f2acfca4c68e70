"""Measures compared on the same networks, and ranks that measures share where they cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

from sharpbench.analysis.statistics.inputs import check_arrays, degrees_of_freedom, unit_codes
from sharpbench.analysis.statistics.interval import LEVEL, ROUNDING, Interval, correlation_interval, p_value
from sharpbench.analysis.statistics.jackknife import Integers, JackknifeVariance, jackknife_variance
from sharpbench.analysis.statistics.rank_correlation import (
    has_cell_tau,
    marginal_kernel,
    marginal_tau,
    within_tau,
    within_variance,
)


@dataclass(frozen=True, slots=True)
class RankComparison:
    """The measures with indices `one` and `other` on the same networks: tau(one) - tau(other) with its 95 % interval.

    Args:
        p: Two-sided, of this comparison only.
        adjusted: The smallest false discovery rate at which the comparison is a discovery.
    """

    one: int
    other: int
    difference: float
    interval: Interval
    p: float
    adjusted: float

    @property
    def better(self) -> int | None:
        """The measure with the higher tau, where the comparison is a discovery at a rate of 5 %."""
        if self.adjusted > 1 - LEVEL or self.difference == 0:
            return None
        return self.one if self.difference > 0 else self.other


def paired_difference(
    one: ArrayLike,
    other: ArrayLike,
    y: ArrayLike,
    cells: Sequence[int] | Integers,
    units: Sequence[int] | Integers | None = None,
    *,
    within: bool,
) -> tuple[float, Interval] | None:
    """tau(one, y) - tau(other, y) on the same networks with its 95 % interval; None where one tau has no interval.

    within: compare the tau within cells, else the marginal tau. Pairs that both measures order alike cancel.
    """
    found = compare_measures([one, other], y, cells, units, within=within)
    return (found[0].difference, found[0].interval) if found else None


def compare_measures(
    measures: Sequence[ArrayLike],
    y: ArrayLike,
    cells: Sequence[int] | Integers,
    units: Sequence[int] | Integers | None = None,
    *,
    within: bool,
) -> tuple[RankComparison, ...]:
    """Comparisons of all pairs of measures whose tau has an interval; `adjusted` is for all of them together.

    The false discovery rate is controlled by Benjamini and Yekutieli 2001, which allows any dependence: differences
    that share a measure depend on each other.
    """
    return _compare_all([_tau_variance(values, y, cells, units, within=within) for values in measures])


def _compare_all(judged: Sequence[_TauVariance | None]) -> tuple[RankComparison, ...]:
    rivals = [(number, each) for number, each in enumerate(judged) if each is not None]
    found = [one.against(other, i, j) for (i, one), (j, other) in combinations(rivals, 2)]
    if not found:
        return ()
    adjusted = false_discovery_control([each.p for each in found], method="by")
    return tuple(replace(each, adjusted=float(value)) for each, value in zip(found, adjusted, strict=True))


def shared_ranks(
    measures: Sequence[ArrayLike],
    y: ArrayLike,
    cells: Sequence[int] | Integers,
    units: Sequence[int] | Integers | None = None,
    *,
    within: bool,
) -> tuple[int | None, ...]:
    """A rank for each measure: 1 + the number of measures whose tau is significantly higher.

    Significant means a discovery among all comparisons of these measures, at a false discovery rate of 5 %. A rank is
    never better than that of a measure with a higher tau, so an uncertain tau gains nothing. The order of the measures
    does not matter. A measure without an interval has the rank None and is not compared.
    """
    judged = [_tau_variance(values, y, cells, units, within=within) for values in measures]
    known = {number: each.tau for number, each in enumerate(judged) if each is not None}
    beaten = dict.fromkeys(known, 0)
    for each in _compare_all(judged):
        if each.better is not None:
            beaten[each.one + each.other - each.better] += 1
    return tuple(
        1 + max(beaten[rival] for rival, tau in known.items() if tau >= known[number]) if number in known else None
        for number in range(len(measures))
    )


@dataclass(frozen=True, slots=True, eq=False)
class _TauVariance:
    """A tau with its variance."""

    tau: float
    spread: JackknifeVariance
    drawn: int  # networks in the cells that count, or units
    freedom: int

    def against(self, other: _TauVariance, one: int, number: int) -> RankComparison:
        """The comparison with another tau. Half a difference lies in [-1, 1] and is treated like a correlation."""
        difference, variance = self.tau - other.tau, (self.spread - other.spread).variance()
        if abs(difference) < ROUNDING and variance < ROUNDING:  # both order the networks alike
            return RankComparison(one, number, 0.0, Interval(0.0, 0.0), 1.0, 1.0)
        known = {"freedom": min(self.freedom, other.freedom), "networks": min(self.drawn, other.drawn)}
        half = correlation_interval(difference / 2, variance / 4, **known)
        p = p_value(difference / 2, variance / 4, **known)
        return RankComparison(one, number, difference, Interval(2 * half.low, 2 * half.high), p, p)


def _tau_variance(
    x: ArrayLike,
    y: ArrayLike,
    cells: Sequence[int] | Integers,
    units: Sequence[int] | Integers | None,
    *,
    within: bool,
) -> _TauVariance | None:
    tau = (within_tau if within else marginal_tau)(x, y, cells, units)
    if tau.value is None or tau.interval is None:
        return None
    first, second, codes = check_arrays(x, y, cells)
    together = None if units is None else unit_codes(units, len(first))
    used = has_cell_tau(first, second, codes) if within else np.ones(len(first), dtype=np.bool_)
    freedom, drawn = degrees_of_freedom(codes[used], None if together is None else together[used])
    if within:
        return _TauVariance(tau.value, within_variance(first, second, codes, together), drawn, freedom)
    return _TauVariance(tau.value, jackknife_variance(marginal_kernel(first, second), codes, together), drawn, freedom)
