"""The jackknife of tau-b over all networks, for many small cells: what `jackknife_pairs` gives for `marginal_kernel`.

The kernel of a pair, and its square, is a sum of four small integers with one factor each: the product of the two
signs, and whether the pair is untied in x, in y, and in both. The integers are added up by network and cell. Only these
sums are multiplied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sharpbench.analysis.statistics.cell_taus import pair_signs
from sharpbench.analysis.statistics.jackknife import (
    Floats,
    Integers,
    Jackknife,
    change_without_network,
    divide_or_zero,
    excess_weights_within,
)

MAX_SUMS_AT_ONCE = 2**16
"""Sums by network and cell that are held at a time, so that they fit in a processor's cache."""


@dataclass(frozen=True, slots=True)
class _Factors:
    """The kernel is product * agree - x * untied_x - y * untied_y."""

    product: float
    x: float
    y: float

    def sums(self, counts: _Counts) -> Floats:
        """[r, K] The sums of the kernel."""
        found: Floats = self.product * counts.agree - self.x * counts.untied_x - self.y * counts.untied_y
        return found

    def squares(self, counts: _Counts) -> Floats:
        """[r, K] The sums of its squares; agree is 0 where either side is tied."""
        found: Floats = (
            (self.product**2 + 2 * self.x * self.y) * counts.untied
            + self.x**2 * counts.untied_x
            + self.y**2 * counts.untied_y
            - 2 * self.product * (self.x + self.y) * counts.agree
        )
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Sums over the networks of each cell, compared with some networks: [r, K] each, `untied` means in both."""

    agree: Floats
    untied_x: Floats
    untied_y: Floats
    untied: Floats


def jackknife_marginal(x: Floats, y: Floats, cells: Integers, tau: float) -> Jackknife:
    """The jackknife of Kendall's tau-b of x and y [n], which is `tau`; neither side is constant.

    Costs n^2 comparisons of whole numbers and n K additions, for n networks in K cells.
    """
    by_size = np.argsort(-np.bincount(cells), kind="stable")  # cells from the largest to the smallest
    place = np.empty_like(by_size)
    place[by_size] = np.arange(len(by_size))
    order = np.argsort(place[cells], kind="stable")
    cell = place[cells][order]
    ranks = [np.unique(values, return_inverse=True)[1][order].astype(np.int32) for values in (x, y)]
    untied_x, untied_y = (len(x) ** 2 - int((np.bincount(rank) ** 2).sum()) for rank in ranks)
    factors = _Factors(1 / float(np.sqrt(untied_x * untied_y)), tau / 2 / untied_x, tau / 2 / untied_y)
    found = _sum_excess(ranks, cell, factors)
    single, excess = np.empty(len(x)), np.empty(len(by_size))
    single[order] = change_without_network(found.total[None], found.own[None], cell)[0]
    excess[by_size] = found.excess
    return Jackknife(single[None], excess[:, None, None], cells)


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """[n] The sums of the kernel over all networks and over those of the own cell, and the excess by cell [K]."""

    total: Floats
    own: Floats
    excess: Floats


def _sum_excess(ranks: list[NDArray[np.int32]], cell: Integers, factors: _Factors) -> _Sums:
    """The sums, of networks in the order of their cells, cells from the largest to the smallest."""
    size = np.bincount(cell).astype(float)
    pairs = divide_or_zero(size, size - 1)
    total, own, own_squares = np.empty(len(cell)), np.empty(len(cell)), np.empty(len(cell))
    by_network, by_column = np.empty(len(cell)), np.zeros(len(size))
    means = _SquaredMeans(pairs / size, len(size))
    for rows, counts in _count_by_cell(ranks, cell):
        sums, squares = factors.sums(counts), factors.squares(counts)
        every = np.arange(len(rows)), cell[rows]
        total[rows], own[rows], own_squares[rows] = sums.sum(axis=1), sums[every], squares[every]
        sums[every] = squares[every] = 0.0
        means.add(sums, cell[rows])
        sums *= sums
        by_network[rows] = 2 * pairs[cell[rows]] * (squares @ pairs - sums @ (pairs / size))
        by_column += 2 * pairs[cell[rows]] @ sums
    count = len(size)
    excess = np.bincount(cell, by_network, count) - by_column * pairs / size + 2 * pairs / size * means.finish()
    of_own: list[Floats] = [np.bincount(cell, each, count).astype(float) for each in (own_squares, own**2, own)]
    inside = of_own[0] - 2 * divide_or_zero(of_own[1], size - 2)
    inside += divide_or_zero(of_own[2] ** 2, (size - 1) * (size - 2))
    return _Sums(total, own, excess + excess_weights_within(size) * inside)


class _SquaredMeans:
    """[K] For each cell, the weighted sum over the other cells of the squared sums between the two."""

    def __init__(self, weights: Floats, cells: int) -> None:
        self._weights, self._found = weights, np.zeros(cells)
        self._open, self._open_cell = np.zeros(cells), 0

    def add(self, sums: Floats, cell: Integers) -> None:
        """Add the sums [r, K] of further networks; those of one cell follow each other."""
        starts = np.flatnonzero(np.diff(cell, prepend=-1))
        parts = np.add.reduceat(sums, starts, axis=0)
        if cell[0] == self._open_cell:
            parts[0] += self._open
        else:
            self._found[self._open_cell] = self._open**2 @ self._weights
        self._found[cell[starts[:-1]]] = parts[:-1] ** 2 @ self._weights
        self._open, self._open_cell = parts[-1], int(cell[-1])

    def finish(self) -> Floats:
        self._found[self._open_cell] = self._open**2 @ self._weights
        return self._found


def _count_by_cell(ranks: list[NDArray[np.int32]], cell: Integers) -> Iterator[tuple[Integers, _Counts]]:
    """Some networks at a time and their counts; cells from the largest to the smallest."""
    size = np.bincount(cell)
    first = np.cumsum(size) - size
    holding = len(size) - np.cumsum(np.bincount(size))[:-1]  # the number of cells with more than p networks, for each p
    columns = [[rank[first[:many] + member] for rank in ranks] for member, many in enumerate(holding)]
    tied = [len(np.unique(rank)) < len(rank) for rank in ranks]
    step = max(1, MAX_SUMS_AT_ONCE // len(size))
    for start in range(0, len(cell), step):
        rows = np.arange(start, min(start + step, len(cell)))
        one = [rank[rows, None] for rank in ranks]
        others = np.tile(size, (len(rows), 1))
        others[np.arange(len(rows)), cell[rows]] -= 1
        agree, *untied = (np.zeros(others.shape, dtype=np.int32) for _ in range(4))
        for column in columns:
            signs = [pair_signs(each, other) for each, other in zip(one, column, strict=True)]
            product = signs[0] * signs[1]
            agree[:, : product.shape[1]] += product
            for into, sign, counted in zip(untied, [*signs, product], [*tied, all(tied)], strict=True):
                if counted:
                    into[:, : sign.shape[1]] += sign != 0
        untied_x, untied_y = (each if counts else others for each, counts in zip(untied[:2], tied, strict=True))
        both = untied[2] if all(tied) else untied_x if tied[0] else untied_y
        yield rows, _Counts(*(each.astype(np.float64) for each in (agree, untied_x, untied_y, both)))
