"""A rescaled diagonal as blocks of terms d exp(-2 (z_row + z_column)) with potentials z = X u.

A graph of signed potentials shows which terms can be driven to 0 together. A term d exp(-2 (x - y)) is an arrow from x
to y: along a direction in which no term grows, x does not fall below y. Arrows between strongly connected parts are the
terms that fall along some such direction.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, vstack
from scipy.sparse.csgraph import connected_components

from sharpbench.symmetry.group import RescalingGroup
from sharpbench.symmetry.minimum.layers import find_vanishing_terms
from sharpbench.symmetry.rules.propagation import IndexArray, compact

Index = NDArray[np.int64]
MAX_PROGRAMME_TERMS = 50_000
"""Up to this number of terms a linear programme finds those that vanish, where exponents have more than two units."""


def drop_vanishing_terms(terms: Terms) -> tuple[list[Block], dict[str, int] | None]:
    """The blocks without the terms that can be driven to 0 together, and the number of these by parameter.

    The graph of arrows decides it for exponents of at most two units, each of which has the same factor up to the sign
    wherever it occurs: in units of that factor, exponents are x - y. Other exponents need a linear programme; None
    stands for too many terms for it.
    """
    many = np.diff(terms.potentials.indptr)
    if any((many[block.rows].max() + many[block.columns].max()) > 2 for block in terms.blocks):
        return _drop_by_programme(terms)
    if _factors_differ(terms.potentials):
        return _drop_by_programme(terms)
    literals = _SignedPotentials(terms.potentials)
    arrows = [np.empty((2, 0), dtype=np.int64)]
    hubs = literals.count
    for block in terms.blocks:
        for more in literals.arrows(block, hubs):
            arrows.append(more)
            hubs = max(hubs, int(more.max(initial=0)) + 1)
    sources, sinks = np.concatenate(arrows, axis=1)
    graph = coo_array((np.ones(len(sources), dtype=np.int8), (sources, sinks)), shape=(hubs, hubs))
    _, part = connected_components(graph.tocsr(), connection="strong")
    return _keep_entries(terms, [literals.inside(block, part) for block in terms.blocks])


def _factors_differ(potentials: csr_array) -> bool:
    """Whether a unit occurs with factors of different size."""
    columns = abs(potentials.tocsc())
    most = columns.max(axis=0).toarray()
    return bool((most[columns.nonzero()[1]] - columns.data > 1e-9).any())


def _keep_entries(terms: Terms, inside: list[NDArray[np.bool_]]) -> tuple[list[Block], dict[str, int]]:
    live, found = [], {}
    for block, held in zip(terms.blocks, inside, strict=True):
        gone = int(np.count_nonzero((block.values > 0) & ~held))
        if gone:
            found[block.name] = gone
            block = Block(block.name, np.where(held, block.values, 0.0), block.rows, block.columns)
        live.append(block)
    return live, found


class _SignedPotentials:
    """Nodes for u_j, for -u_j and for 0; a term d exp(-2 (x - y)) is an arrow from x to y, and from -y to -x.

    Along a direction in which no term grows, x does not fall below y.
    """

    def __init__(self, potentials: csr_array) -> None:
        size = potentials.shape[1]
        counts, starts = np.diff(potentials.indptr), potentials.indptr[:-1]
        self.size, self.count = size, 2 * size + 1
        self.first = np.full(potentials.shape[0], 2 * size)
        self.second = np.full(potentials.shape[0], 2 * size)
        signed = potentials.indices + np.where(potentials.data > 0, 0, size)
        self.first[counts > 0] = signed[starts[counts > 0]]
        self.second[counts > 1] = signed[starts[counts > 1] + 1]

    def negative(self, nodes: Index) -> Index:
        """-x for each x."""
        return np.where(nodes == 2 * self.size, nodes, (nodes + self.size) % max(2 * self.size, 1))

    def ends(self, block: Block) -> tuple[Index, Index]:
        """x by row and y by column, so that exponents are x - y."""
        if block.single:
            return self.first[block.rows], self.negative(self.second[block.rows])
        return self.first[block.rows], self.negative(self.first[block.columns])

    def arrows(self, block: Block, hub: int) -> Iterator[Index]:
        """Arrows for all terms above 0; if they fill a matrix, they pass through a hub instead of one per entry."""
        x, y = self.ends(block)
        positive = block.values > 0
        if block.single:
            yield from self._both(x[positive[:, 0]], y[positive[:, 0]])
            return
        rows, columns = positive.any(1), positive.any(0)
        if rows.any() and positive[np.ix_(rows, columns)].all():
            x, y = x[rows], y[columns]
            yield np.stack((x, np.full(len(x), hub)))
            yield np.stack((np.full(len(y), hub), y))
            yield np.stack((self.negative(y), np.full(len(y), hub + 1)))
            yield np.stack((np.full(len(x), hub + 1), self.negative(x)))
        else:
            row, column = np.nonzero(positive)
            yield from self._both(x[row], y[column])

    def _both(self, x: Index, y: Index) -> Iterator[Index]:
        yield np.stack((x, y))
        yield np.stack((self.negative(y), self.negative(x)))

    def inside(self, block: Block, part: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether each entry is an arrow within one part."""
        x, y = self.ends(block)
        if block.single:
            return np.asarray(part[x] == part[y])[:, None]
        return np.asarray(part[x][:, None] == part[y][None, :])


def _drop_by_programme(terms: Terms) -> tuple[list[Block], dict[str, int] | None]:
    """As `drop_vanishing_terms`, for any exponents, by a linear programme."""
    places = [np.nonzero(block.values > 0) for block in terms.blocks]
    if sum(len(row) for row, _ in places) > MAX_PROGRAMME_TERMS:
        return list(terms.blocks), None
    X = terms.potentials
    exponents = [
        X[block.rows[row]] + X[block.columns[column]] for block, (row, column) in zip(terms.blocks, places, strict=True)
    ]
    gone, inside, start = find_vanishing_terms(csr_array(vstack(exponents))), [], 0
    for block, (row, column) in zip(terms.blocks, places, strict=True):
        held = np.ones(block.values.shape, dtype=bool)
        held[row, column] = ~gone[start : start + len(row)]
        start += len(row)
        inside.append(held)
    return _keep_entries(terms, inside)


Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One parameter's terms: sum_oi values_oi exp(-2 (z[rows_o] + z[columns_i])).

    values [O, I], at least 0; rows [O], columns [I]: potentials, without repetition. With one potential per entry there
    is one column, of potential 0.
    """

    name: str
    values: Array
    rows: IndexArray
    columns: IndexArray

    @property
    def single(self) -> bool:
        """Whether it has one potential per entry."""
        return len(self.columns) == 1 and not self.columns[0]


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """potentials: X [potentials, dimension], sparse, with different rows; the first is 0. blocks: one per parameter."""

    potentials: csr_array
    blocks: tuple[Block, ...]


def row_traces(group: RescalingGroup, diagonal: Mapping[str, Array]) -> Array:
    """The sum of the diagonal at each row of the basis, for a group of layers."""
    total = np.zeros(group.basis.shape[0])
    for name, (rows,) in group.basis_rows.items():
        values, rows = (diagonal[name], rows) if rows.size > 1 else (diagonal[name].sum(), rows.reshape(()))
        total += np.bincount(np.broadcast_to(rows, values.shape).ravel(), values.ravel(), minlength=len(total))
    return total


def unit_terms(group: RescalingGroup, diagonal: Mapping[str, Array]) -> Terms:
    """The terms of a group of units; entries with equal log-scales are summed.

    diagonal: by parameter and of its shape, or its sum where the parameter has one scale; float64, at least 0.
        Parameters outside the group are constants.
    """
    potentials, potential = deduplicate_rows(csr_array(group.basis))
    blocks: list[Block] = []
    for name, values in diagonal.items():
        arrays = [compact(potential[rows]) for rows in group.basis_rows.get(name, ())]
        if values.ndim == 0:  # a scalar, or the sum over a parameter that has one scale
            values = values.reshape((1,) * max((array.ndim for array in arrays), default=1))
        arrays = [array for array in arrays if array.any()]
        spans = [{axis for axis, size in enumerate(array.shape) if size > 1} for array in arrays]
        idle = tuple(axis for axis in range(values.ndim) if not any(axis in span for span in spans))
        total = values.sum(idle, keepdims=True)
        if len(arrays) == 2 and all(len(span) == 1 for span in spans) and spans[0] != spans[1]:
            row, column = arrays if min(spans[0]) < min(spans[1]) else arrays[::-1]
            blocks.append(_make_block(name, total.reshape(row.size, column.size), row.ravel(), column.ravel()))
            continue
        names = [np.broadcast_to(array, total.shape).ravel() for array in arrays]
        potentials, joint = _add_potentials(potentials, names, total.size)
        blocks.append(_make_block(name, total.reshape(-1, 1), joint, np.zeros(1, dtype=np.int64)))
    return Terms(potentials, tuple(blocks))


def _make_block(name: str, values: Array, rows: IndexArray, columns: IndexArray) -> Block:
    """The Block with equal rows and equal columns summed; with one potential per entry it is a single column."""
    values, rows = _sum_equal_rows(values, rows)
    turned, columns = _sum_equal_rows(values.T, columns)
    if len(rows) == 1 and not rows[0]:
        return Block(name, turned, columns, rows)
    return Block(name, np.ascontiguousarray(turned.T), rows, columns)


def _sum_equal_rows(values: Array, rows: IndexArray) -> tuple[Array, IndexArray]:
    kept, inverse = np.unique(rows, return_inverse=True)
    if len(kept) == len(rows):
        return values, rows
    if len(kept) == 1:
        return values.sum(0, keepdims=True), kept
    which = csr_array((np.ones(len(rows)), (inverse, np.arange(len(rows)))), shape=(len(kept), len(rows)))
    return np.asarray(which @ values), kept


def _add_potentials(potentials: csr_array, names: Sequence[IndexArray], count: int) -> tuple[csr_array, IndexArray]:
    """Potentials that are sums of others; sums of more than one get new rows."""
    if len(names) < 2:
        return potentials, names[0] if names else np.zeros(count, dtype=np.int64)
    different, inverse = np.unique(np.stack(names), axis=1, return_inverse=True)
    sums = potentials[different[0]]
    for row in different[1:]:
        sums = sums + potentials[row]
    rows, place = deduplicate_rows(csr_array(vstack((potentials, sums), format="csr")))
    if not np.array_equal(place[: potentials.shape[0]], np.arange(potentials.shape[0])):
        raise AssertionError("earlier potentials must keep their positions")
    return rows, place[potentials.shape[0] :][inverse.ravel()]


def deduplicate_rows(matrix: csr_array) -> tuple[csr_array, IndexArray]:
    """The different rows, a row of zeros first, then by first appearance; the index of each row among them."""
    matrix = csr_array(vstack((csr_array((1, matrix.shape[1])), matrix), format="csr"))
    matrix.sum_duplicates()
    matrix.data[np.abs(matrix.data) < 1e-9] = 0.0
    matrix.eliminate_zeros()
    known: dict[bytes, int] = {}
    first: list[int] = []
    place = np.empty(matrix.shape[0], dtype=np.int64)
    for row, (start, stop) in enumerate(itertools.pairwise(matrix.indptr.tolist())):
        key = matrix.indices[start:stop].tobytes() + np.round(matrix.data[start:stop], 6).tobytes()
        if key not in known:
            known[key] = len(first)
            first.append(row)
        place[row] = known[key]
    return csr_array(matrix[first]), place[1:]
