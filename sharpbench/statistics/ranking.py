"""Ranking: measures compared on the same networks, and ranks that are shared where nothing tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sharpbench.statistics.interval import ROUNDING, Interval, around_correlation
from sharpbench.statistics.spread import Integers, Spread, spread
from sharpbench.statistics.tau import checked, informative, marginal_kernel, marginal_tau, within_kernel, within_tau


def paired_difference(
    one: ArrayLike, other: ArrayLike, y: ArrayLike, cells: Sequence[int] | Integers, *, within: bool
) -> tuple[float, Interval] | None:
    """tau(one, y) - tau(other, y) on the same networks with its 95 % interval; None where one has no interval.

    within: compare tau within cells, else the marginal tau. What both measures order alike cancels.
    """
    first, second = (_judged(values, y, cells, within=within) for values in (one, other))
    return first.minus(second) if first and second else None


def shared_ranks(
    measures: Sequence[ArrayLike], y: ArrayLike, cells: Sequence[int] | Integers, *, within: bool
) -> tuple[int | None, ...]:
    """A rank for each measure: 1 + the number of measures whose tau is significantly higher.

    Significant: the 95 % interval of the paired difference lies above 0. A rank is never better than that of a
    measure with a higher tau, so that an uncertain tau gains nothing by it. The order of the measures does
    not matter; a measure without an interval has None and counts for nobody.
    """
    judged = [_judged(values, y, cells, within=within) for values in measures]
    rivals = [each for each in judged if each is not None]
    beaten = {id(each): sum(rival.minus(each)[1].low > 0 for rival in rivals) for each in rivals}
    return tuple(
        1 + max(beaten[id(rival)] for rival in rivals if rival.tau >= each.tau) if each is not None else None
        for each in judged
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """A tau, and how it varies with the networks."""

    tau: float
    spread: Spread
    networks: int  # in the cells that count
    freedom: int

    def minus(self, other: _Judged) -> tuple[float, Interval]:
        """Half a difference of correlations lies in [-1, 1] and is treated like one."""
        difference, variance = self.tau - other.tau, (self.spread - other.spread).variance()
        if abs(difference) < ROUNDING and variance < ROUNDING:  # the two order the networks alike
            return 0.0, Interval(0.0, 0.0)
        networks, freedom = min(self.networks, other.networks), min(self.freedom, other.freedom)
        half = around_correlation(difference / 2, variance / 4, freedom=freedom, networks=networks)
        return difference, Interval(2 * half.low, 2 * half.high)


def _judged(x: ArrayLike, y: ArrayLike, cells: Sequence[int] | Integers, *, within: bool) -> _Judged | None:
    tau = within_tau(x, y, cells) if within else marginal_tau(x, y, cells)
    if tau.value is None or tau.interval is None:
        return None
    first, second, codes = checked(x, y, cells)
    kernel = within_kernel(first, second, codes) if within else marginal_kernel(first, second)
    used = codes[informative(first, second, codes)] if within else codes
    return _Judged(tau.value, spread(kernel, codes), len(used), len(used) - len(np.unique(used)))
