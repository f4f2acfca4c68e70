"""Solutions of many short homogeneous linear equations with small coefficients.

Two kinds do nearly all the work: x = 0 and x = +-y, which are solved together as connected components of a graph
that holds every unknown twice, as x and as -x. The other equations are eliminated one unknown at a time, starting with
the unknown that occurs least often.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

ROUNDING = 1e-9
"""Coefficients are small integers and their quotients; a smaller one is a sum that cancelled."""

Equations = tuple[Sequence[float], NDArray[np.int64]]
"""Coefficients [k] and unknowns [k, n]: n equations, each that the weighted sum of its k unknowns is 0."""


def solve_homogeneous(unknowns: int, equations: Sequence[Equations]) -> csr_array:
    """A sparse S [unknowns, free] such that the solutions are S f for any f; unknown 0 is 0.

    Exact up to quotients of the coefficients. Time is about linear in the equations; only the equations of more than
    two terms are solved by Python code.
    """
    merged, left = merge_equal_unknowns(unknowns, equations)
    return csr_array(merged @ _eliminate(left))


def merge_equal_unknowns(unknowns: int, equations: Sequence[Equations]) -> tuple[csr_array, csr_array]:
    """M [unknowns, classes] with at most one entry +-1 per row, and the equations that remain between classes.

    It applies all equations x = 0 and x = +-y, and those of this form that arise on the way.
    """
    rows = _to_matrix(unknowns, equations)
    ground = csr_array(coo_array(([1.0], ([0], [0])), shape=(1, unknowns)))
    merged = _merge_simple(ground)
    while True:
        left = _drop_cancelled(rows @ merged)
        counts = np.diff(left.indptr)
        starts = left.indptr[:-1]
        simple = counts == 1
        pairs = np.flatnonzero(counts == 2)
        simple[pairs] = np.abs(left.data[starts[pairs]]) == np.abs(left.data[starts[pairs] + 1])
        if not simple.any():
            return merged, csr_array(left[counts > 0])
        merged = csr_array(merged @ _merge_simple(csr_array(left[simple])))


def _to_matrix(unknowns: int, equations: Sequence[Equations]) -> csr_array:
    coefficients, rows, columns, count = [], [], [], 0
    for factors, names in equations:
        coefficients.append(np.repeat(np.asarray(factors, dtype=np.float64), names.shape[1]))
        rows.append(np.tile(np.arange(count, count + names.shape[1]), len(factors)))
        columns.append(names.ravel())
        count += names.shape[1]
    if not count:
        return csr_array((0, unknowns), dtype=np.float64)
    entries = (np.concatenate(coefficients), (np.concatenate(rows), np.concatenate(columns)))
    return csr_array(coo_array(entries, shape=(count, unknowns)))


def _drop_cancelled(matrix: csr_array) -> csr_array:
    matrix = csr_array(matrix)
    matrix.sum_duplicates()
    matrix.data[np.abs(matrix.data) < ROUNDING] = 0.0
    matrix.eliminate_zeros()
    return matrix


def _merge_simple(simple: csr_array) -> csr_array:
    """[unknowns, classes] for equations of one or two terms: the class and sign of each unknown, no entry for 0."""
    size = simple.shape[1]
    counts, starts = np.diff(simple.indptr), simple.indptr[:-1]
    alone = simple.indices[starts[counts == 1]]
    first = starts[counts == 2]
    x, y = simple.indices[first], simple.indices[first + 1]
    opposite = np.where(simple.data[first] * simple.data[first + 1] > 0, size, 0)
    zero = np.full(len(alone), 2 * size)
    one = np.concatenate((x, x + size, alone, alone + size))
    other = np.concatenate((y + opposite, y + size - opposite, zero, zero))
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(2 * size + 1,) * 2)
    _, label = connected_components(graph.tocsr(), directed=False)
    plus, minus = label[:size], label[size : 2 * size]
    free = np.flatnonzero((plus != minus) & (plus != label[-1]))
    classes, column = np.unique(np.minimum(plus, minus)[free], return_inverse=True)
    signs = np.where(plus < minus, 1.0, -1.0)[free]
    return csr_array(coo_array((signs, (free, column)), shape=(size, len(classes))))


def _eliminate(rows: csr_array) -> csr_array:
    """[classes, free]: all unknowns in terms of the free ones, by Gaussian elimination."""
    size = rows.shape[1]
    equations = [
        dict(zip(rows.indices[a:b].tolist(), rows.data[a:b].tolist(), strict=True))
        for a, b in zip(rows.indptr[:-1], rows.indptr[1:], strict=True)
    ]
    holders: dict[int, set[int]] = {}
    for index, equation in enumerate(equations):
        for unknown in equation:
            holders.setdefault(unknown, set()).add(index)
    rarest = [(len(held), unknown) for unknown, held in holders.items()]
    heapq.heapify(rarest)
    solved: list[tuple[int, dict[int, float]]] = []
    while rarest:
        count, unknown = heapq.heappop(rarest)
        held = holders[unknown]
        if not held:
            continue
        if len(held) != count:
            heapq.heappush(rarest, (len(held), unknown))
            continue
        index = min(held, key=lambda row: (len(equations[row]), row))
        pivot = equations[index]
        value = pivot[unknown]
        expression = {name: -factor / value for name, factor in pivot.items() if name != unknown}
        for name in pivot:
            holders[name].discard(index)
        for row in list(held):
            _substitute(equations[row], unknown, expression, holders, row)
        solved.append((unknown, expression))
        for name in expression:
            heapq.heappush(rarest, (len(holders[name]), name))
    return _substitute_back(size, solved)


def _substitute(
    equation: dict[int, float], unknown: int, expression: dict[int, float], holders: dict[int, set[int]], row: int
) -> None:
    factor = equation.pop(unknown)
    holders[unknown].discard(row)
    for name, share in expression.items():
        total = equation.get(name, 0.0) + factor * share
        if abs(total) > ROUNDING:
            equation[name] = total
            holders[name].add(row)
        elif equation.pop(name, None) is not None:
            holders[name].discard(row)


def _substitute_back(size: int, solved: Sequence[tuple[int, dict[int, float]]]) -> csr_array:
    """Expressions in terms of free unknowns only; each was solved before those that it is expressed by."""
    gone = {unknown for unknown, _ in solved}
    free = [unknown for unknown in range(size) if unknown not in gone]
    column = {unknown: place for place, unknown in enumerate(free)}
    known: dict[int, dict[int, float]] = {}
    for unknown, expression in reversed(solved):
        total: dict[int, float] = {}
        for name, factor in expression.items():
            for place, share in known[name].items() if name in known else ((column[name], 1.0),):
                total[place] = total.get(place, 0.0) + factor * share
        known[unknown] = {place: value for place, value in total.items() if abs(value) > ROUNDING}
    entries = [(unknown, place, value) for unknown, total in known.items() for place, value in total.items()]
    entries += [(unknown, place, 1.0) for unknown, place in column.items()]
    rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
    placed = (np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64))
    return csr_array(coo_array((np.array(values, dtype=np.float64), placed), shape=(size, len(free))))
