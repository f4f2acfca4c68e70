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
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
from sharpbench.analysis.statistics.pair_counts import Counts, GroupBits, Ordering, Words
from sharpbench.analysis.statistics.rank_correlation import MIN_MARGINAL_CELL
from sharpbench.analysis.statistics.uncertainty import ROUNDING, assess_uncertainty

MAX_WORDS_AT_ONCE = 100_000
"""Words of bits that permutations take at once, so that they fit in a processor's cache."""
MAX_WORDS_OF_A_SET = 32
"""Words of each set that permutations take at once, for the same reason."""
MAX_TABLES_AT_ONCE = 1_000_000


MAX_WEIGHED = 2**20
"""Numbers k whose k log k is held; of larger ones it is computed each time."""


def _weigh(numbers: NDArray[np.int64]) -> Floats:
    """k log k of each number k."""
    weighed: Floats = np.log(np.maximum(numbers, 1)) * numbers
    return weighed


class Condition:
    """One set S of hyperparameters, and the tables of pairs of networks by their values in it.

    A table belongs to an ordered pair of groups (a, b): all pairs of different networks i in a, j in b that are not
    tied in y, by V_x = sign(x_i - x_j) and V_y = sign(y_i - y_j). The table of (b, a) is its mirror image with both
    signs reversed, so only the pairs with V_y = 1 are counted.

    Args:
        given: The names of the hyperparameters.
        group: [n], 0 ... m-1, the combination of values of each network.

    Attributes:
        entropy: H(V_y | U_S) in nats, times the number of ordered pairs.
    """

    def __init__(self, y: Floats, given: tuple[str, ...], group: Integers) -> None:
        self.given = given
        self._order = np.argsort(group, kind="stable")
        self._group = group[self._order]
        self._bits = GroupBits(self._group)
        self._y = y[self._order]
        self._below, self._upto = Ordering(self._y, self._bits).sets()
        self._total = self._bits.count_tables(self._below)
        self._weighted = _weigh(np.arange(min(2 * int(self._total.max()) + 1, MAX_WEIGHED)))
        self.entropy = float(self._entropy(self._total))

    def counts(self, x: Floats) -> tuple[Counts, Counts]:
        """[m, m], [m, m] The number of pairs with V_y = 1 and V_x = 1, and of those with V_x = -1."""
        below, upto = Ordering(x[self._order], self._bits).sets()
        return self._bits.count_tables(below & self._below), self._total - self._bits.count_tables(upto & self._below)

    def share(self, up: Counts, down: Counts) -> Floats:
        """[...] I(V_x; V_y | U_S) / H(V_y | U_S) = 1 - H(V_y | V_x, U_S) / H(V_y | U_S) of `counts` [..., m, m]."""
        return self._share(up, down, self._total, self.entropy)

    def direction(self, x: Floats) -> int:
        """The sign of the covariance of V_x and V_y given U_S."""
        up, down = self.counts(x)
        one, whole = self._total, self._total + self._total.T
        score = (up - down).astype(float)  # the sum of V_x where V_y = 1; where V_y = -1, that of the mirror, negative
        product = (score - score.T) * (one - one.T)
        covariance = score + score.T - np.divide(product, whole, out=np.zeros_like(score), where=whole > 0)
        return int(np.sign(np.round(covariance.sum(), 9)))

    def without(self, x: Floats, units: Integers) -> Floats:
        """[U] The share without the networks of each unit; units [n]: 0 ... U-1. 0 where no V_y is uncertain."""
        values, unit = x[self._order], units[self._order]
        below, upto = Ordering(values, self._bits).sets()
        everyone = self._bits.prefixes(np.arange(len(values)))[-1]
        one, other = _pairs_inside(unit)
        larger = self._y[one] > self._y[other]
        sides = (  # the pairs in which a network has the larger y, those in which it has the smaller, those in its unit
            _Side(self._below & below, everyone & ~(self._upto | upto), larger & (values[one] > values[other])),
            _Side(self._below & ~upto, below & ~self._upto, larger & (values[one] < values[other])),
            _Side(self._below, everyone & ~self._upto, larger),
        )
        rows = [(self._bits.count_rows(side.larger), self._bits.count_rows(side.smaller)) for side in sides]
        whole = [self._bits.count_tables(side.larger) for side in sides]
        count, groups, found = int(unit.max()) + 1, self._bits.groups, []
        for start in range(0, count, step := max(1, MAX_TABLES_AT_ONCE // groups**2)):
            stop = min(start + step, count)
            inside = np.flatnonzero((unit >= start) & (unit < stop))
            place, group = unit[inside] - start, self._group[inside]
            left = []
            for side, (as_larger, as_smaller), tables in zip(sides, rows, whole, strict=True):
                removed = np.zeros((stop - start, groups, groups), dtype=np.int64)
                np.add.at(removed, (place, group), as_larger[inside])
                np.add.at(removed.swapaxes(1, 2), (place, group), as_smaller[inside])
                twice = side.inside & (unit[one] >= start) & (unit[one] < stop)
                pair = (unit[one[twice]] - start, self._group[one[twice]], self._group[other[twice]])
                np.subtract.at(removed, pair, 1)
                left.append(tables - removed)
            up, down, total = left
            found.append(self._share(up, down, total, self._entropy(total)))
        return np.concatenate(found)

    def null(self, x: Floats, permutations: int, rng: np.random.Generator) -> Floats | None:
        """[permutations] The share when x is permuted among the networks of each group.

        None where every group has one network.
        """
        if self._bits.groups == len(self._group):
            return None
        ordering = Ordering(x[self._order], self._bits)
        found = np.empty(permutations)
        together = max(1, MAX_WORDS_AT_ONCE // (len(x) * min(self._bits.words, MAX_WORDS_OF_A_SET)))
        for start in range(0, permutations, together):
            keys = self._group + rng.random((min(together, permutations - start), len(x)))
            counts = self._dealt_counts(ordering, np.argsort(keys, axis=1))
            found[start : start + together] = self.share(*counts)
        return found

    def _dealt_counts(self, ordering: Ordering, places: Integers) -> tuple[Counts, Counts]:
        """`counts` where the values are dealt out anew, see `Ordering.deal`; some words of all sets at a time."""
        shape = (len(places), self._bits.groups, self._bits.words)
        lower, upper = np.empty(shape, dtype=np.uint32), np.empty(shape if ordering.tied else 0, dtype=np.uint32)
        for start in range(0, self._bits.words, MAX_WORDS_OF_A_SET):
            chosen = slice(start, min(start + MAX_WORDS_OF_A_SET, self._bits.words))
            below, upto = ordering.deal(places, chosen.start, chosen.stop)
            larger = self._below[:, chosen]
            below &= larger
            lower[..., chosen] = self._bits.count_words(below)
            if ordering.tied:
                upto &= larger
                upper[..., chosen] = self._bits.count_words(upto)
        up = self._bits.sum_words(lower)
        return up, self._total - (self._bits.sum_words(upper) if ordering.tied else up)

    def _sum(self, counts: Counts) -> Floats:
        """[...] The sum of k log k over tables."""
        listed = 2 * int(self._total.max()) < len(self._weighted)
        total: Floats = (self._weighted[counts] if listed else _weigh(counts)).sum(axis=(-1, -2))
        return total

    def _entropy(self, total: Counts) -> Floats:
        """[...] H(V_y | U_S) times the number of pairs, of [..., m, m] pairs with V_y = 1."""
        return self._sum(total + np.swapaxes(total, -1, -2)) - 2 * self._sum(total)

    def _share(self, up: Counts, down: Counts, total: Counts, entropy: Floats | float) -> Floats:
        left = 2 * self._sum(up + np.swapaxes(down, -1, -2)) - 2 * self._sum(up) - 2 * self._sum(down)
        tied = total - up - down
        if tied.any():
            left = left + self._sum(tied + np.swapaxes(tied, -1, -2)) - 2 * self._sum(tied)
        certain = np.asarray(entropy) < ROUNDING
        return np.where(certain, 0.0, np.maximum(1 - left / np.where(certain, 1.0, entropy), 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """Pairs of one kind with V_y = 1: as sets [n, W] of partners, and which pairs inside a unit are of the kind."""

    larger: Words
    smaller: Words
    inside: NDArray[np.bool_]


def _pairs_inside(units: Integers) -> tuple[Integers, Integers]:
    """All ordered pairs of different networks of one unit."""
    order = np.argsort(units, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(units[order])) + 1)
    found = [np.stack(np.meshgrid(each, each)).reshape(2, -1) for each in members if len(each) > 1]
    one, other = np.concatenate([np.zeros((2, 0), dtype=np.intp), *found], axis=1)
    return one[one != other], other[one != other]


PERMUTATIONS = 999
SCREENING_PERMUTATIONS = 39
"""Permutations that find the set that chance explains best."""
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
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Information:
    """K of measure x and gap y, its null, and its interval for networks (or units) drawn again, as for tau.

    A pair with a tie in y is left out; a tie in x is a third sign. Sets S for which V_y is certain are left out. The
    interval is on the scale of sqrt(K), by the jackknife within cells.
    """
    columns = varied_axes(axes, len(np.asarray(x)))
    first, second, cells = check_arrays(x, y, combine_codes(list(columns.values()), len(np.asarray(x))))
    together = None if units is None else unit_codes(units, len(first))
    if len(first) < 2 or is_constant(first) or is_constant(second):
        return Information(None, None, explain_undefined(first, second), len(first))
    if len(columns) > MAX_AXES:
        reason = f"{len(columns)} hyperparameters vary, mutual information takes {MAX_AXES} at most"
        return Information(None, None, reason, len(first))
    conditions = [Condition(second, chosen, group) for chosen, group in _condition_sets(columns, len(first))]
    conditions = [condition for condition in conditions if condition.entropy > ROUNDING]
    values = [float(condition.share(*condition.counts(first))) for condition in conditions]
    least = int(np.argmin(values))
    condition, value = conditions[least], values[least]
    why = _explain_no_interval(cells, together)
    untied = untied_share(first, second)
    return Information(
        value,
        None if why else _interval(value, conditions, first, cells, together, untied=untied),
        why,
        len(first),
        condition.given,
        condition.direction(first),
        _null(conditions, values, first, permutations, np.random.default_rng(seed)) if permutations else None,
    )


def _null(
    conditions: Sequence[Condition], values: Sequence[float], x: Floats, permutations: int, rng: np.random.Generator
) -> Null | None:
    """The null at the set where the value exceeds chance least, in standard deviations of a few permutations."""
    most: tuple[float, Condition, float] | None = None
    for condition, value in zip(conditions, values, strict=True):
        few = condition.null(x, min(SCREENING_PERMUTATIONS, permutations), rng)
        if few is not None:
            above, spread = value - float(few.mean()), float(few.std())
            distance = above / spread if spread > ROUNDING else np.inf if above > ROUNDING else 0.0
            most = min(most or (np.inf, condition, value), (distance, condition, value), key=lambda each: each[0])
    if most is None:
        return None
    _, condition, value = most
    dealt = condition.null(x, permutations, rng)
    if dealt is None:
        return None
    p = float((1 + (dealt >= value - ROUNDING).sum()) / (1 + permutations))
    return Null(condition.given, value, float(np.quantile(dealt, LEVEL)), p)


def _condition_sets(columns: dict[str, Integers], networks: int) -> Iterator[tuple[tuple[str, ...], Integers]]:
    for size in range(MAX_SET_SIZE + 1):
        for names in combinations(columns, size):
            yield names, combine_codes([columns[name] for name in names], networks)


def _explain_no_interval(cells: Integers, units: Integers | None) -> str | None:
    why = explain_no_interval(cells, units, MIN_MARGINAL_CELL)
    count = len(np.unique(cells))
    if why or units is not None or count == 1 or len(cells) >= MIN_NETWORKS_PER_CELL * count:
        return why
    return f"{len(cells)} networks in {count} cells, an interval needs {MIN_NETWORKS_PER_CELL} a cell on average"


def _interval(
    value: float,
    conditions: Sequence[Condition],
    x: Floats,
    cells: Integers,
    units: Integers | None,
    *,
    untied: float,
) -> Interval:
    """The jackknife interval on the scale of sqrt(K), because K itself has no slope where nothing is related."""
    left_out = np.arange(len(x)) if units is None else units
    strata = cells if units is None else np.zeros(int(units.max()) + 1, dtype=np.intp)
    roots = np.sqrt(np.min([condition.without(x, left_out) for condition in conditions], axis=0))
    # leaving out a network removes 1 / n of the weight and 1 / size of its cell's; the cell must keep its weight
    single = center_shares(roots[None], strata)[0] * (1 - 1 / len(roots))
    weights = np.bincount(strata).astype(float)
    known = assess_uncertainty(single, np.zeros(len(weights)), strata, weights, untied=untied)
    around = correlation_interval(float(np.sqrt(value)), known)
    return Interval(max(around.low, 0.0) ** 2, around.high**2)
