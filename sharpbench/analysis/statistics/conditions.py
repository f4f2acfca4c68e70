"""Tables of pairs of networks by the signs of their differences in a measure and in the gap, given hyperparameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sharpbench.analysis.statistics.dealt_pairs import ChunkedOrder, DealtPairs, chunk_sizes
from sharpbench.analysis.statistics.jackknife import Floats, Integers
from sharpbench.analysis.statistics.pair_counts import Counts, GroupBits, Ordering

MIN_ENTROPY = 0.5
"""In nats, times the number of pairs. The least that is not 0 is 2 log 2, of two pairs with different V_y."""
MAX_TABLES_AT_ONCE = 1_000_000
"""Entries of tables that are held at a time where networks of several groups are left out together."""


class Condition:
    """One set S of hyperparameters, and the tables of pairs of networks by their values in it.

    A table belongs to an ordered pair of groups (a, b): all pairs of different networks i in a, j in b that are not
    tied in y, by V_x = sign(x_i - x_j) and V_y = sign(y_i - y_j). The table of (b, a) is its mirror image with both
    signs reversed, so only the pairs with V_y = 1 are counted.

    Args:
        given: The names of the hyperparameters.
        group: [n], 0 ... m-1, the combination of values of each network.

    Attributes:
        groups: m.
        entropy: H(V_y | U_S) in nats, times the number of ordered pairs.
    """

    def __init__(self, y: Floats, given: tuple[str, ...], group: Integers) -> None:
        self.given, self.groups = given, int(group.max()) + 1
        self._order = np.argsort(group, kind="stable")
        self._group = group[self._order]
        self._y = y[self._order]
        self._bits = GroupBits(self._group)
        self._sizes = np.bincount(self._group)
        below, upto = Ordering(self._y, self._bits).count_below()
        self.total = PairRows(below, self._sizes - upto, self._group).table
        self.entropy = float(_sum_entropy(self.total))

    @cached_property
    def _dealt(self) -> DealtPairs:
        size, _ = chunk_sizes(len(self._y), self.groups)
        return DealtPairs(ChunkedOrder.of(self._y, size), self._group)

    def compare(self, x: Floats) -> ComparedPairs:
        """The pairs by V_x and V_y for the measure x."""
        values = x[self._order]
        order_x, order_y = Ordering(values, self._bits), Ordering(self._y, self._bits)
        both_below, both_upto, x_upto, y_upto = order_x.count_common(order_y)
        (less_x, most_x), (less_y, most_y) = order_x.count_below(), order_y.count_below()
        return ComparedPairs(
            PairRows(both_below, self._sizes - most_y - most_x + both_upto, self._group),
            PairRows(less_y - x_upto, less_x - y_upto, self._group),
            PairRows(less_y, self._sizes - most_y, self._group),
            order=self._order,
            values=np.stack([values, self._y]),
        )

    def share(self, up: Counts, down: Counts) -> Floats:
        """[...] I(V_x; V_y | U_S) / H(V_y | U_S) = 1 - H(V_y | V_x, U_S) / H(V_y | U_S), of tables [..., m, m].

        up, down: the pairs with V_y = 1 and V_x = 1, and those with V_y = 1 and V_x = -1.
        """
        return _share_of_tables(up, down, self.total)

    def deal(self, permutations: int, rng: np.random.Generator) -> Integers | None:
        """[permutations, n] Networks whose values the networks of each group get, dealt at random within the group.

        Numbers are places in the order of the groups. None where every group has one network.
        """
        networks = len(self._group)
        if self.groups == networks:
            return None
        dealt: Integers = np.empty((permutations, networks), dtype=np.uint16 if networks <= 2**16 else np.intp)
        for row in dealt:
            row[:] = np.argsort(self._group + rng.random(networks))
        return dealt

    def null(self, x: Floats, deals: Integers) -> Floats:
        """[permutations] The share where the values of x are dealt out anew, as `deal` says."""
        values, (_, size) = x[self._order], chunk_sizes(len(x), self.groups)
        up = self._dealt.count(ChunkedOrder.of(values, size), deals)
        if len(np.unique(values)) == len(values):
            return self.share(up, self.total - up)
        return self.share(up, self._dealt.count(ChunkedOrder.of(-values, size), deals))


@dataclass(frozen=True, slots=True, eq=False)
class PairRows:
    """Pairs with V_y = 1, of one V_x or of any, by network.

    Args:
        larger: [n, m] The pairs in which a network has the larger y, by the group of the other one.
        smaller: [n, m] Those in which it has the smaller y.
        group: [n] ascending.
    """

    larger: Counts
    smaller: Counts
    group: Integers

    @property
    def table(self) -> Counts:
        """[m, m] By the group of the network with the larger y and that of the other."""
        found: Counts = np.add.reduceat(self.larger, np.flatnonzero(np.diff(self.group, prepend=-1)), axis=0)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class ComparedPairs:
    """The pairs with V_y = 1 for one measure: those with V_x = 1, those with V_x = -1, and all.

    Args:
        order: [n] The networks in the order of the rows.
        values: [2, n] x and y in this order.
    """

    up: PairRows
    down: PairRows
    total: PairRows
    order: Integers
    values: Floats

    @property
    def direction(self) -> int:
        """The sign of the covariance of V_x and V_y given U_S."""
        up, down, one = self.up.table, self.down.table, self.total.table
        whole = one + one.T
        score = (up - down).astype(float)  # the sum of V_x where V_y = 1; where V_y = -1, that of the mirror, negative
        product = (score - score.T) * (one - one.T)
        covariance = score + score.T - np.divide(product, whole, out=np.zeros_like(score), where=whole > 0)
        return int(np.sign(np.round(covariance.sum(), 9)))

    def without(self, units: Integers) -> Floats:
        """[U] The share without the networks of each unit; units [n]: 0 ... U-1. 0 where no V_y is uncertain."""
        unit, group = units[self.order], self.up.group
        kinds = [
            _Removed.of(rows, unit, inside)
            for rows, inside in zip((self.up, self.down, self.total), self._pairs_inside(unit), strict=True)
        ]
        of_unit = np.zeros(int(unit.max()) + 1, dtype=np.intp)
        of_unit[unit] = group
        if (of_unit[unit] == group).all():
            return _share_of_lines(*(kind.lines(of_unit) for kind in kinds))
        step = max(1, MAX_TABLES_AT_ONCE // kinds[0].table.size)
        starts = range(0, len(of_unit), step)
        return np.concatenate([_share_of_tables(*(kind.tables(i, i + step) for kind in kinds)) for i in starts])

    def _pairs_inside(self, unit: Integers) -> Iterator[tuple[Integers, Integers]]:
        """The pairs of each kind whose two networks are of one unit."""
        one, other = _pairs_inside(unit)
        x, y = self.values
        larger = y[one] > y[other]
        for kind in (larger & (x[one] > x[other]), larger & (x[one] < x[other]), larger):
            yield one[kind], other[kind]


@dataclass(frozen=True, slots=True, eq=False)
class _Removed:
    """The pairs of one kind that go with each unit.

    Args:
        table: [m, m] All pairs of the kind.
        rows: The pairs of each network.
        unit: [n] The unit of each network.
        inside: The pairs whose two networks are of one unit.
    """

    table: Counts
    rows: PairRows
    unit: Integers
    inside: tuple[Integers, Integers]

    @staticmethod
    def of(rows: PairRows, unit: Integers, inside: tuple[Integers, Integers]) -> _Removed:
        return _Removed(rows.table, rows, unit, inside)

    def lines(self, group: Integers) -> _Lines:
        """The table without each unit of one group, group [U]: the row and the column that change."""
        order = np.argsort(self.unit, kind="stable")
        starts = np.flatnonzero(np.diff(self.unit[order], prepend=-1))
        gone_row, gone_column = (
            np.add.reduceat(counts[order], starts, axis=0) for counts in (self.rows.larger, self.rows.smaller)
        )
        row, column, every = self.table[group] - gone_row, self.table[:, group].T - gone_column, np.arange(len(group))
        twice = np.bincount(self.unit[self.inside[0]], minlength=len(group))
        corner = row[every, group] - gone_column[every, group] + twice
        row[every, group] = column[every, group] = corner
        return _Lines(self.table, group, row, column)

    def tables(self, start: int, stop: int) -> Counts:
        """[stop - start, m, m] The table without each of some units, which may lie across groups."""
        chosen = np.flatnonzero((self.unit >= start) & (self.unit < stop))
        place, group = self.unit[chosen] - start, self.rows.group
        removed = np.zeros((int(place.max()) + 1, *self.table.shape), dtype=np.int64)
        np.add.at(removed, (place, group[chosen]), self.rows.larger[chosen])
        np.add.at(removed.swapaxes(1, 2), (place, group[chosen]), self.rows.smaller[chosen])
        one, other = (each[np.isin(self.unit[self.inside[0]], self.unit[chosen])] for each in self.inside)
        np.subtract.at(removed, (self.unit[one] - start, group[one], group[other]), 1)
        return self.table - removed


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """Tables [m, m] that differ from `table` in one row and one column, those of `group` [U].

    Args:
        row, column: [U, m] Both hold the entry in which they cross.
    """

    table: Counts
    group: Integers
    row: Counts
    column: Counts

    @property
    def mirror(self) -> _Lines:
        """The tables with rows and columns exchanged."""
        return _Lines(self.table.T, self.group, self.column, self.row)

    def plus(self, other: _Lines, sign: int = 1) -> _Lines:
        """The sums, or differences, of the tables of two."""
        return _Lines(
            self.table + sign * other.table,
            self.group,
            self.row + sign * other.row,
            self.column + sign * other.column,
        )

    def sum(self) -> Floats:
        """[U] The sum of k log k over each table."""
        weighed, every = _weigh(self.table), np.arange(len(self.group))
        before = weighed.sum(axis=1) + weighed.sum(axis=0) - np.diag(weighed)
        row, column = _weigh(self.row), _weigh(self.column)
        after = row.sum(axis=1) + column.sum(axis=1) - row[every, self.group]
        total: Floats = weighed.sum() - before[self.group] + after
        return total


def _share_of_lines(up: _Lines, down: _Lines, total: _Lines) -> Floats:
    """[U] The share of each of the tables."""
    left = 2 * up.plus(down.mirror).sum() - 2 * up.sum() - 2 * down.sum()
    tied = total.plus(up, -1).plus(down, -1)
    if tied.table.any():
        left = left + tied.plus(tied.mirror).sum() - 2 * tied.sum()
    return _information_share(left, total.plus(total.mirror).sum() - 2 * total.sum())


def _share_of_tables(up: Counts, down: Counts, total: Counts) -> Floats:
    """[...] The share of tables [..., m, m]."""
    left = 2 * _sum(up + np.swapaxes(down, -1, -2)) - 2 * _sum(up) - 2 * _sum(down)
    tied = total - up - down
    if tied.any():
        left = left + _sum_entropy(tied)
    return _information_share(left, _sum_entropy(total))


def _information_share(left: Floats, entropy: Floats) -> Floats:
    """1 - left / entropy; 0 where no V_y is uncertain."""
    certain = np.asarray(entropy) < MIN_ENTROPY
    return np.where(certain, 0.0, np.maximum(1 - left / np.where(certain, 1.0, entropy), 0.0))


def _sum_entropy(total: Counts) -> Floats:
    """[...] H(V_y | U_S) times the number of pairs, of [..., m, m] pairs with V_y = 1."""
    return _sum(total + np.swapaxes(total, -1, -2)) - 2 * _sum(total)


def _sum(counts: Counts) -> Floats:
    """[...] The sum of k log k over tables."""
    total: Floats = _weigh(counts).sum(axis=(-1, -2))
    return total


def _weigh(numbers: Counts) -> Floats:
    """k log k of each number k."""
    weighed: Floats = np.log(np.maximum(numbers, 1)) * numbers
    return weighed


def _pairs_inside(units: Integers) -> tuple[Integers, Integers]:
    """All ordered pairs of different networks of one unit."""
    order = np.argsort(units, kind="stable")
    sizes = np.bincount(units)
    each = sizes[units[order]]  # the networks of its unit, for each network
    one = np.repeat(np.arange(len(units)), each)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    other = np.repeat(first, each) + np.arange(len(one)) - np.repeat(np.cumsum(each) - each, each)
    differ = one != other
    return order[one[differ]], order[other[differ]]
