"""Minima over positive row and column scales of a pair of non-negative matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Array = NDArray[np.float64]
SCALING_TOLERANCE = 1e-12
MAX_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class ScaledMatrix:
    """A minimum over the scales of a matrix.

    value: the infimum.
    gradient: the largest derivative by the logarithm of a scale, relative to the value: at most TOLERANCE where the
        alternation converged, about 1e-9 after L-BFGS. The error of the value is of second order in it.
    dropped: the number of non-zero entries that can be driven to 0 together; they are left out, and the infimum is not
        attained.
    steps: iterations.
    """

    value: float
    gradient: float
    dropped: int
    steps: int


def scale_rows_and_columns(diagonal: Array, squares: Array) -> ScaledMatrix:
    """The minimum over s, t > 0 of sum_ij D_ij s_i t_j + V_ij / (s_i t_j), for D, V >= 0 of shape [out, in].

    The sum is convex in log s and log t. Each half-step solves one side exactly: s_i^2 = (V t^-1)_i / (D t)_i.

    Source: Tsuzuku, Sato, Sugiyama 2020; the alternation is the AM-GM condition of either side.

    >>> round(symmetry.scale_rows_and_columns(np.array([[1.0]]), np.array([[4.0]])).value, 9)  # min of x + 4 / x
    4.0
    """
    D, V, dropped = _drop_vanishing(diagonal, squares)
    if D.size == 0:
        return ScaledMatrix(0.0, 0.0, dropped, 0)
    t, value, gradient, step = np.ones(D.shape[1]), np.inf, np.inf, 0
    while gradient > SCALING_TOLERANCE and step < MAX_STEPS:
        step += 1
        s = np.sqrt((V @ (1 / t)) / (D @ t))
        curvature, weight = D.T @ s, V.T @ (1 / s)
        value = float(t @ curvature + (1 / t) @ weight)
        gradient = float(np.abs(t * curvature - weight / t).max()) / value
        t = np.sqrt(weight / curvature)
    return ScaledMatrix(value, gradient, dropped, step)


def scale_columns(diagonal: Array, squares: Array) -> ScaledMatrix:
    """The minimum over t > 0 of sqrt(sum_i (D t)_i (V t^-1)_i), for D, V >= 0 of shape [out, in].

    The square is sum_jk M_jk t_j / t_k with M = D^T V, a matrix balancing problem, convex in log t. It is solved by
    scipy's L-BFGS on its logarithm.

    Source: Ibayashi, Hamaguchi, Imaizumi 2021, in whose form the ICML objective is written.

    >>> round(symmetry.scale_columns(np.array([[1.0]]), np.array([[4.0]])).value, 9)
    2.0
    """
    D, V, dropped = _drop_vanishing(diagonal, squares)
    if D.size == 0:
        return ScaledMatrix(0.0, 0.0, dropped, 0)

    def logarithm(log_t: Array) -> tuple[float, Array]:
        t = np.exp(log_t)
        curvature, weight = D @ t, V @ (1 / t)
        total = float(curvature @ weight)
        return float(np.log(total)), (t * (D.T @ weight) - (V.T @ curvature) / t) / total

    solved = minimize(
        logarithm,
        np.zeros(D.shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_STEPS, "maxfun": MAX_STEPS, "maxcor": 30, "ftol": 0.0, "gtol": SCALING_TOLERANCE},
    )
    return ScaledMatrix(float(np.exp(solved.fun / 2)), float(np.abs(solved.jac).max()), dropped, int(solved.nit))


def _drop_vanishing(diagonal: Array, squares: Array) -> tuple[Array, Array, int]:
    """D and V without entries that can be driven to 0 and without empty rows and columns; the number of entries."""
    kept = _find_bounded_entries(diagonal, squares)
    dropped = np.count_nonzero((diagonal > 0) & ~kept) + np.count_nonzero((squares > 0) & ~kept)
    place = np.ix_(kept.any(1), kept.any(0))
    return np.where(kept, diagonal, 0.0)[place], np.where(kept, squares, 0.0)[place], int(dropped)


def _find_bounded_entries(diagonal: Array, squares: Array) -> NDArray[np.bool_]:
    """The entries that no direction drives to 0 while no entry grows.

    A direction in log s, -log t along which no term grows is an order of rows and columns: row i is at most column j
    where D_ij > 0, and at least column j where V_ij > 0. Entries between two strongly connected parts of this graph
    shrink along some such direction; entries within a part do not. A row or column in which D or V is 0 is a separate
    part.
    """
    rows, columns = diagonal.shape
    i, j = np.nonzero(diagonal > 0)
    m, n = np.nonzero(squares > 0)
    sources, sinks = np.concatenate((i, n + rows)), np.concatenate((j + rows, m))
    order = coo_array((np.ones(len(sources), dtype=np.int8), (sources, sinks)), shape=(rows + columns, rows + columns))
    _, part = connected_components(order.tocsr(), connection="strong")
    inside: NDArray[np.bool_] = part[:rows, None] == part[None, rows:]
    return inside & ((diagonal > 0) | (squares > 0))
