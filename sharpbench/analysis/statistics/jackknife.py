"""The variance of a sum over pairs of networks when the networks of each cell are drawn again.

A rank correlation is, to first order, a sum over ordered pairs h[i, j]. When cells are fixed and the networks in
them are drawn independently, its variance has a part from single networks and one from pairs (Hoeffding's
decomposition). The stratified jackknife, which keeps the weights of the cells, counts the first part once and the
second too often: twice between cells, 2(m-1)/(m-2) times within a cell of m (Efron and Stein 1981, The jackknife
estimate of variance). The residuals of a two-way layout estimate this excess without bias: |single|^2 is the
jackknife, and |single|^2 - |excess|^2 is unbiased. Both vectors are linear in h, so the difference of two measures is
a subtraction.

The vector of the excess has n^2 entries and is never formed. Its squared length in each cell follows from the sums of
h and h^2 over rows and cells; for several measures from the sums of their products.

No network is ever paired with itself. A bootstrap draws networks twice and would have to correct for that.

Where configurations are drawn with their networks, or several configurations share an initialisation, `units` says
which networks are drawn together. The jackknife then leaves out units. Pairs inside a unit belong to that unit and
never count as pairs of two draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
Kernel = Callable[[Integers], Floats]
"""Rows [r, n] of a symmetric matrix [n, n] with zero diagonal, by their numbers [r]."""

MAX_ENTRIES_AT_ONCE = 2**20
"""Entries of kernels that are held at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Jackknife:
    """The vectors of M statistics of the same networks, from which variances follow; see the module's text.

    Args:
        single: [M, n] Centred changes when a network, or unit, is left out.
        excess: [K, M, M] Products of the excess of two statistics over the pairs of each cell with all.
        cells: [n] The cell of each network; all 0 for units.
    """

    single: Floats
    excess: Floats
    cells: Integers

    def combine(self, weights: Floats) -> tuple[Floats, Floats]:
        """[n], [K] The vector `single`, and the squared length of the excess by cell, of a weighted sum."""
        return weights @ self.single, np.maximum(np.einsum("kab,a,b->k", self.excess, weights, weights), 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class CellSums:
    """Sums of a symmetric kernel over the pairs of a network with the networks of another cell; others are 0.

    Args:
        network: [E] The network of each entry.
        partner: [E] The cell of the other networks; a network has at most one entry for each.
        sums: [E] The sum of the kernel over these pairs.
        squares: [E] The sum of its squares.
    """

    network: Integers
    partner: Integers
    sums: Floats
    squares: Floats


def jackknife_pairs(kernels: Sequence[Kernel], cells: Integers, units: Integers | None = None) -> Jackknife:
    """The jackknife of the sums of kernels over ordered pairs. Costs n^2 (K + M) operations for each kernel.

    Args:
        cells: [n], 0 ... K-1, the cell of each network; networks are drawn independently within cells.
        units: [n], 0 ... U-1. Where given, units are drawn independently, whatever the cells.
    """
    if units is None:
        return _jackknife_cells(kernels, cells)
    networks, count = len(units), int(units.max()) + 1
    step = max(1, MAX_ENTRIES_AT_ONCE // networks)
    together = []
    for kernel in kernels:
        chunks = (np.arange(start, min(start + step, networks)) for start in range(0, networks, step))
        rows = np.concatenate([_sum_by_cell(kernel(chunk), units) for chunk in chunks])  # [n, U]
        together.append(_sum_by_cell(rows.T, units).T)
    own = np.array([np.diag(each) for each in together])
    for each in together:
        np.fill_diagonal(each, 0.0)
    whole = np.zeros(count, dtype=np.intp)
    between = _jackknife_cells([each.__getitem__ for each in together], whole)
    return Jackknife(between.single + center_shares(own, whole), between.excess, whole)


def jackknife_stack(kernels: Floats) -> tuple[Floats, Floats]:
    """The jackknife of each of Q cells of one size by itself: `single` [M, Q, s] and `excess` [Q, M, M].

    kernels [M, Q, s, s]. It is what `jackknife_pairs` gives for each cell, for many small cells at once.
    """
    measures, cells, size, _ = kernels.shape
    rows = kernels.sum(axis=3)
    change = 2 * rows * (size / (size - 2) if size > 2 else 0.0)
    single = np.sqrt((size - 1) / size) * (change - change.mean(axis=2, keepdims=True))
    if size <= 3:
        return single, np.zeros((cells, measures, measures))
    flat, rows = kernels.reshape(measures, cells, -1).swapaxes(0, 1), rows.swapaxes(0, 1)  # [Q, M, ...]
    total = rows.sum(axis=2)
    explained = 2 * rows @ rows.swapaxes(1, 2) / (size - 2)
    explained -= total[:, :, None] * total[:, None] / ((size - 1) * (size - 2))
    weight = 2 * size * (size - 1) / ((size - 2) * (size - 3))
    return single, weight * (flat @ flat.swapaxes(1, 2) - explained)


def jackknife_cell_sums(sums: CellSums, cells: Integers) -> Jackknife:
    """The jackknife of one sum over ordered pairs of networks of different cells, in time in proportion to `sums`."""
    size = np.bincount(cells).astype(float)
    count, factor = len(size), divide_or_zero(size, size - 1)
    row, column = cells[sums.network], sums.partner
    weights = 2 * factor[row] * factor[column]
    excess = np.bincount(row, weights * sums.squares, count)
    explained = weights * sums.sums**2 / size[column]
    excess -= np.bincount(row, explained, count) + np.bincount(column, explained, count)
    places, into = np.unique(row * count + column, return_inverse=True)
    row, column = np.divmod(places, count)
    means = np.bincount(into, sums.sums) ** 2 / (size[row] * size[column])
    excess += np.bincount(row, 2 * factor[row] * factor[column] * means, count)
    shares: Floats = 2.0 * np.bincount(sums.network, sums.sums, len(cells))[None].astype(float)
    products: Floats = excess[:, None, None].astype(float)
    return Jackknife(center_shares(shares, cells), products, cells)


def jackknife_shares(shares: Floats, cells: Integers, units: Integers | None = None) -> Jackknife:
    """The jackknife of sums over networks, shares [M, n]; cells and units as in `jackknife_pairs`."""
    if units is not None:
        shares, cells = _sum_by_cell(shares, units), np.zeros(int(units.max()) + 1, dtype=np.intp)
    return Jackknife(center_shares(shares, cells), np.zeros((cells.max() + 1, len(shares), len(shares))), cells)


def center_shares(shares: Floats, cells: Integers) -> Floats:
    """[M, n] The vectors `single` of sums over networks, shares [M, n]."""
    size = np.bincount(cells)[cells].astype(float)
    centred: Floats = np.sqrt(divide_or_zero(size, size - 1)) * (shares - _cell_means(shares, cells))
    return centred


def _jackknife_cells(kernels: Sequence[Kernel], cells: Integers) -> Jackknife:
    networks, count = len(cells), len(kernels)
    size = np.bincount(cells).astype(float)
    rows = np.empty((count, networks, len(size)))  # sums of each network's pairs by cell
    excess = np.zeros((len(size), count, count))
    step = max(1, MAX_ENTRIES_AT_ONCE // (count * networks))
    for cell in range(len(size)):
        inside, weight = np.flatnonzero(cells == cell), np.sqrt(_excess_weights(size, cell))[cells]
        for start in range(0, len(inside), step):
            chosen = inside[start : start + step]
            entries = np.stack([kernel(chosen) for kernel in kernels])  # [M, r, n]
            rows[:, chosen] = _sum_by_cell(entries, cells)
            entries *= weight
            flat = entries.reshape(count, -1)
            excess[cell] += flat @ flat.T
    for cell in range(len(size)):
        excess[cell] -= _explained_by_members(rows, cells, size, cell)
    return Jackknife(_single(rows, cells), excess, cells)


def _sum_by_cell(values: Floats, cells: Integers) -> Floats:
    """[..., K] The sums of values [..., n] over the networks of each cell."""
    if (cells[1:] < cells[:-1]).any():
        order = np.argsort(cells, kind="stable")
        values, cells = values[..., order], cells[order]
    starts = np.concatenate([[0], np.flatnonzero(cells[1:] != cells[:-1]) + 1])
    sums: Floats = np.add.reduceat(values, starts, axis=-1)
    return sums


def _excess_weights(size: Floats, cell: int) -> Floats:
    """[K] How often the jackknife counts a pair too often, by the cell of the other network."""
    factor = np.divide(size, size - 1, out=np.zeros_like(size), where=size > 1)
    weights: Floats = 2 * factor[cell] * factor
    weights[cell] = excess_weights_within(size)[cell]
    return weights


def excess_weights_within(size: Floats) -> Floats:
    """[K] How often the jackknife counts a pair of one cell too often."""
    return np.where(size > 3, divide_or_zero(2 * size * (size - 1), (size - 2) * (size - 3)), 0.0)


def _explained_by_members(rows: Floats, cells: Integers, size: Floats, cell: int) -> Floats:
    """[M, M] The part of the weighted products of a cell's pairs that is the sum of their members' parts.

    Between cells a and b of sizes m_a and m_b the residuals of h are h - (row mean) - (column mean) + (mean). Within a
    cell of m they are h - a_i - a_j + l, a_i = (sum of row i) / (m-2), l = (sum of all) / ((m-1)(m-2)).
    """
    weights, inside = _excess_weights(size, cell), cells == cell
    between = weights.copy()
    between[cell] = 0.0
    own = size[cell]
    by_row = (rows[:, inside] * np.sqrt(between / size)).reshape(len(rows), -1)
    by_column = rows[:, :, cell] * np.sqrt(between / own)[cells]
    means = rows[:, inside].sum(axis=1) * np.sqrt(between / (own * size))
    found: Floats = by_row @ by_row.T + by_column @ by_column.T - means @ means.T
    if weights[cell]:
        within, total = rows[:, inside, cell], rows[:, inside, cell].sum(axis=1)
        pairs = 2 * within @ within.T / (own - 2) - np.outer(total, total) / ((own - 1) * (own - 2))
        found += weights[cell] * pairs
    return found


def _single(rows: Floats, cells: Integers) -> Floats:
    """[M, n] Centred changes when a network is left out and its cell's pairs keep their weight."""
    return change_without_network(rows.sum(axis=2), rows[:, np.arange(len(cells)), cells], cells)


def change_without_network(total: Floats, own: Floats, cells: Integers) -> Floats:
    """[M, n] The vectors `single`, of the sums of a kernel over all networks and over those of the own cell."""
    many = np.bincount(cells).astype(float)[cells]
    change = 2 * (total - own) * divide_or_zero(many, many - 1) + 2 * own * divide_or_zero(many, many - 2)
    centred: Floats = np.sqrt(divide_or_zero(many - 1, many)) * (change - _cell_means(change, cells))
    return centred


def _cell_means(values: Floats, cells: Integers) -> Floats:
    """Each network's mean over its cell, along the last axis."""
    means: Floats = (_sum_by_cell(values, cells) / np.bincount(cells))[..., cells]
    return means


def divide_or_zero(top: Floats, bottom: Floats) -> Floats:
    """top / bottom; 0 where the bottom is not positive, as in a cell that is too small."""
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
