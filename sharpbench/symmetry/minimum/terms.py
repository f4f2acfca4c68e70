"""Terms: what a rescaling makes of a diagonal, as blocks d exp(-2 (z_row + z_column)) with potentials z = X u."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, vstack
from scipy.sparse.csgraph import connected_components

from sharpbench.symmetry.group import RescalingGroup
from sharpbench.symmetry.minimum.layers import vanishing
from sharpbench.symmetry.rules.propagation import IndexArray, compact

# Arrows: which terms can be driven to 0 together, read off a graph of signed potentials.
#
# A term d exp(-2 (x - y)) is an arrow from x to y: along a direction in which no term grows, x does not fall below y.
# Arrows between strongly connected parts are the terms that fall along some such direction.

Index = NDArray[np.int64]
PROGRAMME = 50_000
"""Terms up to which a linear programme is asked for what vanishes, where exponents have more than two units."""


def live_blocks(terms: Terms) -> tuple[list[Block], dict[str, int] | None]:
    """The blocks without the terms that can be driven to 0 together, and how many these are by parameter.

    Arrows say it of exponents of at most two units, each with the same factor, up to the sign, wherever it occurs:
    measured in that factor, exponents are x - y. None: too many terms for the linear programme that others need.
    """
    many = np.diff(terms.potentials.indptr)
    if any((many[block.rows].max() + many[block.columns].max()) > 2 for block in terms.blocks):
        return _live_by_programme(terms)
    if _factors_differ(terms.potentials):
        return _live_by_programme(terms)
    literals = _Literals(terms.potentials)
    arrows = [np.empty((2, 0), dtype=np.int64)]
    hubs = literals.count
    for block in terms.blocks:
        for more in literals.arrows(block, hubs):
            arrows.append(more)
            hubs = max(hubs, int(more.max(initial=0)) + 1)
    sources, sinks = np.concatenate(arrows, axis=1)
    graph = coo_array((np.ones(len(sources), dtype=np.int8), (sources, sinks)), shape=(hubs, hubs))
    _, part = connected_components(graph.tocsr(), connection="strong")
    return _kept(terms, [literals.inside(block, part) for block in terms.blocks])


def _factors_differ(potentials: csr_array) -> bool:
    """Whether a unit has factors of different size."""
    columns = abs(potentials.tocsc())
    most = columns.max(axis=0).toarray()
    return bool((most[columns.nonzero()[1]] - columns.data > 1e-9).any())


def _kept(terms: Terms, inside: list[NDArray[np.bool_]]) -> tuple[list[Block], dict[str, int]]:
    live, found = [], {}
    for block, held in zip(terms.blocks, inside, strict=True):
        gone = int(np.count_nonzero((block.values > 0) & ~held))
        if gone:
            found[block.name] = gone
            block = Block(block.name, np.where(held, block.values, 0.0), block.rows, block.columns)
        live.append(block)
    return live, found


class _Literals:
    """Nodes for u_j, for -u_j and for 0; a term d exp(-2 (x - y)) is an arrow from x to y, and from -y to -x:
    along a direction in which no term grows, x does not fall below y."""

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
        """Arrows for all terms above 0; where they fill a matrix, through a hub instead of one for each entry."""
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
        """Which entries are arrows within one part."""
        x, y = self.ends(block)
        if block.single:
            return np.asarray(part[x] == part[y])[:, None]
        return np.asarray(part[x][:, None] == part[y][None, :])


def _live_by_programme(terms: Terms) -> tuple[list[Block], dict[str, int] | None]:
    """The same for any exponents, by a linear programme."""
    places = [np.nonzero(block.values > 0) for block in terms.blocks]
    if sum(len(row) for row, _ in places) > PROGRAMME:
        return list(terms.blocks), None
    X = terms.potentials
    exponents = [
        X[block.rows[row]] + X[block.columns[column]] for block, (row, column) in zip(terms.blocks, places, strict=True)
    ]
    gone, inside, start = vanishing(csr_array(vstack(exponents))), [], 0
    for block, (row, column) in zip(terms.blocks, places, strict=True):
        held = np.ones(block.values.shape, dtype=bool)
        held[row, column] = ~gone[start : start + len(row)]
        start += len(row)
        inside.append(held)
    return _kept(terms, inside)


Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One parameter's terms: sum_oi values_oi exp(-2 (z[rows_o] + z[columns_i])).

    values [O, I], at least 0; rows [O], columns [I]: potentials, each named once. One column of potential 0 where
    there is but one potential an entry.
    """

    name: str
    values: Array
    rows: IndexArray
    columns: IndexArray

    @property
    def single(self) -> bool:
        """Whether it has one potential an entry."""
        return len(self.columns) == 1 and not self.columns[0]


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """potentials: X [potentials, dimension], sparse, no two rows alike; the first is 0. blocks: by parameter."""

    potentials: csr_array
    blocks: tuple[Block, ...]


def row_traces(group: RescalingGroup, diagonal: Mapping[str, Array]) -> Array:
    """Of a group of layers: the sum of the diagonal at each row of its basis."""
    total = np.zeros(group.basis.shape[0])
    for name, (rows,) in group.places.items():
        values, rows = (diagonal[name], rows) if rows.size > 1 else (diagonal[name].sum(), rows.reshape(()))
        total += np.bincount(np.broadcast_to(rows, values.shape).ravel(), values.ravel(), minlength=len(total))
    return total


def unit_terms(group: RescalingGroup, diagonal: Mapping[str, Array]) -> Terms:
    """The terms of a group of units; entries whose log-scales are equal are added up.

    diagonal: by parameter and of its shape, float64, at least 0. Parameters that the group does not rescale
    stand for constants.
    """
    potentials, potential = distinct(csr_array(group.basis))
    blocks: list[Block] = []
    for name, values in diagonal.items():
        arrays = [compact(potential[rows]) for rows in group.places.get(name, ())]
        arrays = [array for array in arrays if array.any()]
        spans = [{axis for axis, size in enumerate(array.shape) if size > 1} for array in arrays]
        idle = tuple(axis for axis in range(values.ndim) if not any(axis in span for span in spans))
        total = values.sum(idle, keepdims=True)
        if len(arrays) == 2 and all(len(span) == 1 for span in spans) and spans[0] != spans[1]:
            row, column = arrays if min(spans[0]) < min(spans[1]) else arrays[::-1]
            blocks.append(_block(name, total.reshape(row.size, column.size), row.ravel(), column.ravel()))
            continue
        names = [np.broadcast_to(array, total.shape).ravel() for array in arrays]
        potentials, joint = _joint(potentials, names, total.size)
        blocks.append(_block(name, total.reshape(-1, 1), joint, np.zeros(1, dtype=np.int64)))
    return Terms(potentials, tuple(blocks))


def _block(name: str, values: Array, rows: IndexArray, columns: IndexArray) -> Block:
    """With equal rows and equal columns added up; what has one potential an entry as a single column."""
    values, rows = _added(values, rows)
    turned, columns = _added(values.T, columns)
    if len(rows) == 1 and not rows[0]:
        return Block(name, turned, columns, rows)
    return Block(name, np.ascontiguousarray(turned.T), rows, columns)


def _added(values: Array, rows: IndexArray) -> tuple[Array, IndexArray]:
    kept, inverse = np.unique(rows, return_inverse=True)
    if len(kept) == len(rows):
        return values, rows
    if len(kept) == 1:
        return values.sum(0, keepdims=True), kept
    which = csr_array((np.ones(len(rows)), (inverse, np.arange(len(rows)))), shape=(len(kept), len(rows)))
    return np.asarray(which @ values), kept


def _joint(potentials: csr_array, names: Sequence[IndexArray], count: int) -> tuple[csr_array, IndexArray]:
    """Potentials that are sums of others, with new rows where more than one is added."""
    if len(names) < 2:
        return potentials, names[0] if names else np.zeros(count, dtype=np.int64)
    different, inverse = np.unique(np.stack(names), axis=1, return_inverse=True)
    sums = potentials[different[0]]
    for row in different[1:]:
        sums = sums + potentials[row]
    rows, place = distinct(csr_array(vstack((potentials, sums), format="csr")))
    if not np.array_equal(place[: potentials.shape[0]], np.arange(potentials.shape[0])):
        raise AssertionError("the potentials that were there keep their places")
    return rows, place[potentials.shape[0] :][inverse.ravel()]


def distinct(matrix: csr_array) -> tuple[csr_array, IndexArray]:
    """The different rows in the order of their first appearance, a row of zeros first; which of them each row is."""
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
