"""Terms: what a rescaling makes of a diagonal, as blocks d exp(-2 (z_row + z_column)) with potentials z = X u."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from sharpbench.symmetry.group import RescalingGroup
from sharpbench.symmetry.layout import Places, compact

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """One parameter's terms: sum_oi values_oi exp(-2 (z[rows_o] + z[columns_i])).

    values [O, I], at least 0; rows [O], columns [I]: potentials, each named once. One column of potential 0 where
    there is but one potential an entry.
    """

    name: str
    values: Array
    rows: Places
    columns: Places

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


def _block(name: str, values: Array, rows: Places, columns: Places) -> Block:
    """With equal rows and equal columns added up; what has one potential an entry as a single column."""
    values, rows = _added(values, rows)
    turned, columns = _added(values.T, columns)
    if len(rows) == 1 and not rows[0]:
        return Block(name, turned, columns, rows)
    return Block(name, np.ascontiguousarray(turned.T), rows, columns)


def _added(values: Array, rows: Places) -> tuple[Array, Places]:
    kept, inverse = np.unique(rows, return_inverse=True)
    if len(kept) == len(rows):
        return values, rows
    if len(kept) == 1:
        return values.sum(0, keepdims=True), kept
    which = csr_array((np.ones(len(rows)), (inverse, np.arange(len(rows)))), shape=(len(kept), len(rows)))
    return np.asarray(which @ values), kept


def _joint(potentials: csr_array, names: Sequence[Places], count: int) -> tuple[csr_array, Places]:
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


def distinct(matrix: csr_array) -> tuple[csr_array, Places]:
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
