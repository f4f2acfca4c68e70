"""What the order of two networks by a measure tells about their order by the gap, in mutual information.

The conditional mutual information K of Jiang, Neyshabur, Mobahi, Krishnan, Bengio 2020 (section 4), between the signs
V_x = sign(x_i - x_j) and V_y = sign(y_i - y_j) of ordered pairs i != j, given the values U_S that both networks have
in a set S of hyperparameters:

    I(V_x; V_y | U_S) / H(V_y | U_S),  and K is its least value over all S of at most two hyperparameters.

Both are averages over U_S with its probability, estimated by counts. Such an estimate is never negative, so it is too
large in expectation, and more so for smaller tables; permutations show by how much. The sets S differ in this, so the
smallest share need not be the one that chance explains best. A measure tells something only if chance explains the
share at no set S. K has no sign; `direction` gives it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from sharpbench.analysis.statistics.conditions import MIN_ENTROPY, Condition
from sharpbench.analysis.statistics.inputs import (
    Axes,
    check_arrays,
    combine_codes,
    explain_no_interval,
    explain_undefined,
    is_constant,
    unit_codes,
    untied_share,
    varied_axes,
)
from sharpbench.analysis.statistics.interval import LEVEL, Interval, correlation_interval
from sharpbench.analysis.statistics.jackknife import Floats, Integers, center_shares
from sharpbench.analysis.statistics.rank_correlation import MIN_MARGINAL_CELL
from sharpbench.analysis.statistics.uncertainty import ROUNDING, assess_uncertainty

PERMUTATIONS = 999
PERMUTATIONS_OF_LARGE_TABLES = 199
"""p below 5 % is as rare by chance with 199 as with 999, and in large tables a permutation takes long."""
LARGE_TABLE = 2000
"""Networks of which more make a large table."""
SCREENING_SHARE = 0.04
"""Of the permutations, how many find the set that chance explains best."""
MIN_SCREENING_PERMUTATIONS = 19
MIN_NETWORKS_OF_SEVERAL_CELLS = 15
"""Networks that an interval needs at least where there are several cells; with 12 it covered 92 %."""
MIN_NETWORKS_PER_CELL = 4
"""Networks per cell, on average, that an interval needs at least where there are several cells. With three a cell and
a strong confounder the estimate is so much too large that intervals miss its expected value."""
MAX_SET_SIZE = 2
MAX_AXES = 24
"""The number of sets S grows with the square of the axes."""


@dataclass(frozen=True, slots=True)
class Null:
    """The share that chance gives, at the set S of hyperparameters where it explains most.

    Args:
        given: The set S.
        share: I / H there.
        chance: The 95 % quantile of that share when the values of the measure are permuted among the networks that
            agree in S.
        p: The share of such permutations that reach `share`.
    """

    given: tuple[str, ...]
    share: float
    chance: float
    p: float


@dataclass(frozen=True, slots=True)
class Information:
    """K in [0, 1], its interval, and the reason where either is missing.

    Args:
        given: The set S with the smallest share.
        direction: 1 or -1: whether the two orders agree or disagree given S more often than not; 0 for neither.
        null: None where it was not requested.
    """

    value: float | None
    interval: Interval | None
    reason: str | None
    networks: int
    given: tuple[str, ...] = ()
    direction: int = 0
    null: Null | None = None

    @property
    def by_chance(self) -> bool:
        """Whether chance explains the share at some set S: p above 5 %."""
        return self.null is not None and self.null.p > 1 - LEVEL


def conditional_information(
    x: ArrayLike,
    y: ArrayLike,
    axes: Axes,
    units: Sequence[int] | Integers | None = None,
    *,
    permutations: int | None = None,
    seed: int = 0,
) -> Information:
    """K of measure x and gap y, its null, and its interval for networks (or units) drawn again, as for tau.

    permutations: None is PERMUTATIONS, for more than LARGE_TABLE networks PERMUTATIONS_OF_LARGE_TABLES.

    A pair with a tie in y is left out; a tie in x is a third sign. Sets S for which V_y is certain are left out. The
    interval is on the scale of sqrt(K), by the jackknife within cells.
    """
    return ConditionedPairs(y, axes, units, permutations=permutations, seed=seed).information(x)


class ConditionedPairs:
    """The pairs of networks given each set S, for any number of measures of the same networks.

    Arguments are those of `conditional_information`. What does not depend on the measure is found once, also the
    permutations: they are the same for all measures.
    """

    def __init__(
        self,
        y: ArrayLike,
        axes: Axes,
        units: Sequence[int] | Integers | None = None,
        *,
        permutations: int | None = None,
        seed: int = 0,
    ) -> None:
        if permutations is None:
            permutations = PERMUTATIONS if len(np.asarray(y)) <= LARGE_TABLE else PERMUTATIONS_OF_LARGE_TABLES
        columns = varied_axes(axes, len(np.asarray(y)))
        codes = combine_codes(list(columns.values()), len(np.asarray(y)))
        self._y, _, self._cells = check_arrays(y, y, codes)
        self._units = None if units is None else unit_codes(units, len(self._y))
        self._axes, self._permutations, self._seed = columns, permutations, seed

    def information(self, x: ArrayLike) -> Information:
        """K of the measure x."""
        first, second, cells = check_arrays(x, self._y, self._cells)
        if len(first) < 2 or is_constant(first) or is_constant(second):
            return Information(None, None, explain_undefined(first, second), len(first))
        if len(self._axes) > MAX_AXES:
            reason = f"{len(self._axes)} hyperparameters vary, mutual information takes {MAX_AXES} at most"
            return Information(None, None, reason, len(first))
        why = _explain_no_interval(cells, self._units)
        left_out = np.arange(len(first)) if self._units is None else self._units
        values, directions, roots = [], [], np.full(int(left_out.max()) + 1, np.inf)
        for condition in self._conditions:  # one at a time, because each takes much memory
            pairs = condition.compare(first)
            values.append(float(condition.share(pairs.up.table, pairs.down.table)))
            directions.append(pairs.direction)
            if not why:
                roots = np.minimum(roots, pairs.without(left_out))
        least = int(np.argmin(values))
        return Information(
            values[least],
            None if why else self._interval(values[least], np.sqrt(roots), untied_share(first, second)),
            why,
            len(first),
            self._conditions[least].given,
            directions[least],
            self._null(values, first) if self._permutations else None,
        )

    @cached_property
    def _conditions(self) -> list[Condition]:
        sets = _condition_sets(self._axes, len(self._y))
        found = (Condition(self._y, chosen, group) for chosen, group in sets)
        return [condition for condition in found if condition.entropy > MIN_ENTROPY]

    @cached_property
    def _deals(self) -> Deals:
        return Deals(self._conditions, self._permutations, self._seed)

    def _null(self, values: Sequence[float], x: Floats) -> Null | None:
        """The null at the set where the value exceeds chance least, in standard deviations of a few permutations."""
        most: tuple[float, int] | None = None
        for number, (condition, value, deals) in enumerate(
            zip(self._conditions, values, self._deals.screening, strict=True)
        ):
            if deals is not None:
                few = condition.null(x, deals)
                above, spread = value - float(few.mean()), float(few.std())
                distance = above / spread if spread > ROUNDING else np.inf if above > ROUNDING else 0.0
                most = min(most or (np.inf, number), (distance, number), key=lambda each: each[0])
        if most is None:
            return None
        number = most[1]
        condition, value = self._conditions[number], values[number]
        dealt = condition.null(x, self._deals.of_condition(number))
        p = float((1 + (dealt >= value - ROUNDING).sum()) / (1 + self._permutations))
        return Null(condition.given, value, float(np.quantile(dealt, LEVEL)), p)

    def _interval(self, value: float, roots: Floats, untied: float) -> Interval:
        """The jackknife interval on the scale of sqrt(K), because K itself has no slope where nothing is related.

        roots: [U] sqrt(K) without the networks of each unit.
        """
        strata = self._cells if self._units is None else np.zeros(len(roots), dtype=np.intp)
        # leaving out a network removes 1 / n of the weight and 1 / size of its cell's; the cell must keep its weight
        single = center_shares(roots[None], strata)[0] * (1 - 1 / len(roots))
        weights = np.bincount(strata).astype(float)
        known = assess_uncertainty(single, np.zeros(len(weights)), strata, weights, untied=untied)
        around = correlation_interval(float(np.sqrt(value)), known)
        return Interval(max(around.low, 0.0) ** 2, around.high**2)


MAX_HELD_DEALS = 2**26
"""Numbers of networks in permutations that are held for further measures."""


class Deals:
    """Permutations within the groups of each condition, the same for all measures.

    Attributes:
        screening: A few for each condition; None where there is nothing to permute.
    """

    def __init__(self, conditions: Sequence[Condition], permutations: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        few = min(permutations, max(round(SCREENING_SHARE * permutations) - 1, MIN_SCREENING_PERMUTATIONS))
        self.screening = [each.deal(few, rng) for each in conditions]
        self._conditions, self._permutations, self._after = conditions, permutations, rng.bit_generator.state
        self._held: dict[int, Integers] = {}

    def of_condition(self, number: int) -> Integers:
        """[permutations, n] All for one condition."""
        if number not in self._held:
            rng = np.random.default_rng()
            rng.bit_generator.state = self._after
            dealt = self._conditions[number].deal(self._permutations, rng)
            assert dealt is not None  # a condition with screening
            if sum(each.size for each in self._held.values()) + dealt.size > MAX_HELD_DEALS:
                self._held.clear()
            self._held[number] = dealt
        return self._held[number]


def _condition_sets(columns: dict[str, Integers], networks: int) -> Iterator[tuple[tuple[str, ...], Integers]]:
    for size in range(MAX_SET_SIZE + 1):
        for names in combinations(columns, size):
            yield names, combine_codes([columns[name] for name in names], networks)


def _explain_no_interval(cells: Integers, units: Integers | None) -> str | None:
    why = explain_no_interval(cells, units, MIN_MARGINAL_CELL)
    count = len(np.unique(cells))
    needed = max(MIN_NETWORKS_OF_SEVERAL_CELLS, MIN_NETWORKS_PER_CELL * count)
    if why or units is not None or count == 1 or len(cells) >= needed:
        return why
    return f"{len(cells)} networks in {count} cells, an interval needs {needed}"
