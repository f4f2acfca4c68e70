"""Measures compared on the same networks, and their ranks by the number of significantly better ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control

from sharpbench.analysis.statistics.inputs import check_arrays, unit_codes
from sharpbench.analysis.statistics.interval import LEVEL, Interval, correlation_interval, p_value
from sharpbench.analysis.statistics.jackknife import Integers
from sharpbench.analysis.statistics.power import median_detectable
from sharpbench.analysis.statistics.rank_correlation import (
    TauEstimates,
    explain_no_marginal_interval,
    explain_no_within_interval,
    marginal_estimates,
    within_estimates,
)
from sharpbench.analysis.statistics.uncertainty import ROUNDING


@dataclass(frozen=True, slots=True)
class RankComparison:
    """The measures with indices `one` and `other` on the same networks: tau(one) - tau(other) with its 95 % interval.

    Args:
        p: Two-sided, of this comparison only.
        adjusted: The smallest false discovery rate at which the comparison is a discovery.
        error: The standard error of the difference, with that of the values over the draw of their examples.
        freedom: Degrees of freedom of its variance.
    """

    one: int
    other: int
    difference: float
    interval: Interval
    p: float
    adjusted: float
    error: float
    freedom: float

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
    noise: Sequence[float] | None = None,
) -> tuple[RankComparison, ...]:
    """Comparisons of all pairs of measures whose tau has an interval; `adjusted` is for all of them together.

    noise: [M] A further variance of each tau, from the errors of the values.

    The false discovery rate is controlled by Benjamini and Yekutieli 2001, which allows any dependence: differences
    that share a measure depend on each other.
    """
    known, estimates = _estimate_taus(measures, y, cells, units, within=within)
    return _compare_all(_add_noise(estimates, known, noise), known)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ranks of measures, None for one that is not compared; and the difference that could have been shown.

    Args:
        detectable: See `median_detectable`.
        apart: The pairs of numbers of measures whose comparison is a discovery.
    """

    ranks: tuple[int | None, ...]
    detectable: float | None
    apart: frozenset[frozenset[int]]


def rank_measures(
    measures: Sequence[ArrayLike],
    y: ArrayLike,
    cells: Sequence[int] | Integers,
    units: Sequence[int] | Integers | None = None,
    *,
    within: bool,
    noise: Sequence[float] | None = None,
) -> Ranking:
    """The ranks of measures, and the power of their comparisons.

    A rank is 1 + the number of measures whose tau is significantly higher.

    noise: [M] A further variance of each tau, from the errors of the values.

    Significant means a discovery among all comparisons of these measures, at a false discovery rate of 5 %. A rank is
    never better than that of a measure with a higher tau, so an uncertain tau gains nothing. The order of the measures
    does not matter. A measure without an interval has the rank None and is not compared.
    """
    known, estimates = _estimate_taus(measures, y, cells, units, within=within)
    return rank_estimates(_add_noise(estimates, known, noise), known, len(measures))


def rank_estimates(estimates: TauEstimates | None, known: Sequence[int], count: int) -> Ranking:
    """The ranks of `count` measures, of which those with the numbers `known` have the estimates, in their order."""
    taus = {} if estimates is None else dict(zip(known, estimates.values.tolist(), strict=True))
    beaten, found = dict.fromkeys(known, 0), _compare_all(estimates, known)
    for each in found:
        if each.better is not None:
            beaten[each.one + each.other - each.better] += 1
    ranks = tuple(
        1 + max(beaten[rival] for rival, tau in taus.items() if tau >= taus[number]) if number in taus else None
        for number in range(count)
    )
    apart = frozenset(frozenset((each.one, each.other)) for each in found if each.better is not None)
    return Ranking(ranks, median_detectable(found), apart)


def join_names(names: Sequence[str | None], apart: AbstractSet[frozenset[str]]) -> tuple[tuple[int, int], ...]:
    """The first and last place of each longest run of names of which no two are told apart; no run of one.

    Args:
        names: In the order in which they are shown; None for one that was not compared, which no run holds.
        apart: The pairs that are told apart.

    >>> join_names(["a", "b", "c", None, "d"], {frozenset("ac")})
    ((0, 1), (1, 2))
    """
    runs: list[tuple[int, int]] = []
    for first in range(len(names)):
        last = first
        while last + 1 < len(names) and _is_joined(names[first : last + 2], apart):
            last += 1
        if last > first and not (runs and runs[-1][1] >= last):
            runs.append((first, last))
    return tuple(runs)


def arrange_lanes(runs: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The lane of each run, from 0, so that runs of one lane have no place in common; runs are in order of their first.

    >>> arrange_lanes([(0, 2), (2, 4), (3, 5)])
    (0, 1, 0)
    """
    ends: list[int] = []
    lanes = []
    for first, last in runs:
        lane = next((number for number, end in enumerate(ends) if end < first), len(ends))
        ends[lane : lane + 1] = [last]
        lanes.append(lane)
    return tuple(lanes)


def _is_joined(names: Sequence[str | None], apart: AbstractSet[frozenset[str]]) -> bool:
    """Whether the last name was compared and is not told apart from those before, of which no two are."""
    return None not in names and not any(frozenset((each, names[-1])) in apart for each in names[:-1])


def shared_ranks(
    measures: Sequence[ArrayLike],
    y: ArrayLike,
    cells: Sequence[int] | Integers,
    units: Sequence[int] | Integers | None = None,
    *,
    within: bool,
    noise: Sequence[float] | None = None,
) -> tuple[int | None, ...]:
    """The ranks of `rank_measures`."""
    return rank_measures(measures, y, cells, units, within=within, noise=noise).ranks


def _add_noise(
    estimates: TauEstimates | None, known: Sequence[int], noise: Sequence[float] | None
) -> TauEstimates | None:
    if estimates is None or noise is None:
        return estimates
    return replace(estimates, noise=np.array([noise[number] for number in known]))


def _compare_all(estimates: TauEstimates | None, known: Sequence[int]) -> tuple[RankComparison, ...]:
    """All comparisons of the measures with the numbers `known`, in whose order the estimates are."""
    pairs = list(combinations(range(len(known)), 2))
    if estimates is None or not pairs:
        return ()
    found = [_compare(estimates, *pair, known) for pair in pairs]
    adjusted = false_discovery_control([each.p for each in found], method="by")
    return tuple(replace(each, adjusted=float(value)) for each, value in zip(found, adjusted, strict=True))


def _compare(estimates: TauEstimates, one: int, other: int, known: Sequence[int]) -> RankComparison:
    """The comparison of two measures. Half a difference lies in [-1, 1] and is treated like a correlation."""
    coefficients = np.zeros(len(known))
    coefficients[[one, other]] = 0.5, -0.5
    half, spread = float(coefficients @ estimates.values), estimates.uncertainty(coefficients)
    if abs(half) < ROUNDING and spread.variance < ROUNDING:  # both order the networks alike
        return RankComparison(known[one], known[other], 0.0, Interval(0.0, 0.0), 1.0, 1.0, 0.0, spread.freedom)
    around, p = correlation_interval(half, spread, skewness=0.0), p_value(half, spread)
    interval = Interval(2 * around.low, 2 * around.high)
    whole = spread.variance + spread.further
    freedom = spread.freedom * (whole / spread.variance) ** 2 if spread.variance else spread.freedom
    return RankComparison(known[one], known[other], 2 * half, interval, p, p, 2 * math.sqrt(whole), freedom)


def _estimate_taus(
    measures: Sequence[ArrayLike],
    y: ArrayLike,
    cells: Sequence[int] | Integers,
    units: Sequence[int] | Integers | None,
    *,
    within: bool,
) -> tuple[list[int], TauEstimates | None]:
    """The numbers of the measures whose tau has an interval, and the estimates of these."""
    arrays = [check_arrays(values, y, cells) for values in measures]
    if not arrays:
        return [], None
    second, codes = arrays[0][1:]
    together = None if units is None else unit_codes(units, len(second))
    explain = explain_no_within_interval if within else explain_no_marginal_interval
    known = [number for number, (first, *_) in enumerate(arrays) if not explain(first, second, codes, together)]
    if not known:
        return [], None
    estimate = within_estimates if within else marginal_estimates
    return known, estimate([arrays[number][0] for number in known], second, codes, together)
