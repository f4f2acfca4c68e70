"""The minimum of a sum of block traces over a rescaling group: a small convex programme with a certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lstsq, null_space, orth
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, hstack

from sharpbench.errors import InvalidInput

Array = NDArray[np.float64]
GAP_TOLERANCE = 1e-13
"""The duality gap, relative to the value, at which Newton's method ends."""
MAX_STEPS = 500
NEGATIVE = 1e-6
"""Curvature below minus this share of the largest of its parameter is negative, and not rounding."""
ROUNDING = 1e-9
"""The same share of the largest of all parameters."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerMinimum:
    """The infimum of sum_b t_b exp(-2 (B u)_b) over u.

    value: the infimum.
    terms: each block's share of it.
    u: the minimiser, or a point near the infimum where it is not attained.
    gap: a proven bound on log(value / infimum), from a feasible point of the dual.
    vanishing: the blocks with t > 0 that some direction drives to 0; empty where the infimum is attained.
    method: 'closed form' (the dual has one point: Theorem 1 and its weighted form), 'newton' or 'no freedom'.
    """

    value: float
    terms: Array
    u: Array
    gap: float
    vanishing: tuple[int, ...]
    method: str
    steps: int


def minimise(traces: Array, basis: Array) -> LayerMinimum:
    """The LayerMinimum for traces t >= 0 [blocks] and log-scales B [blocks, dimension].

    Blocks with t = 0, or below it by rounding, do not count. A linear programme finds the blocks that vanish along some
    direction. Over the others the sum is strictly convex, up to directions that do not change it. It is solved in
    closed form where the dual has a single point, else by Newton's method from the least-squares balance.

    Raises:
        InvalidInput: for a trace that is not finite, or below 0 by more than rounding.

    Source: Ibayashi, Hamaguchi, Imaizumi 2021, Definition 1 and Theorem 1, for any linear group of log-scales.

    >>> found = symmetry.minimise(np.array([1.0, 4.0]), np.array([[1.0], [-1.0]]))
    >>> round(found.value, 9)  # 2 sqrt(1 * 4)
    4.0
    """
    check_finite("traces", traces)
    check_not_negative({"traces of the blocks": traces})
    falls = np.zeros(len(traces), dtype=bool)
    falls[traces > 0] = find_vanishing_terms(basis[traces > 0])
    live = (traces > 0) & ~falls
    terms = np.zeros_like(traces)
    u = np.zeros(basis.shape[1])
    gone = tuple(np.flatnonzero(falls).tolist())
    if not live.any():
        return LayerMinimum(0.0, terms, u, 0.0, gone, "no freedom", 0)
    scale = float(traces[live].sum())
    t, directions = traces[live] / scale, orth(basis[live], rcond=1e-10)
    if directions.shape[1] == 0:
        terms[live] = traces[live]
        return LayerMinimum(scale, terms, u, 0.0, gone, "no freedom", 0)
    dual = null_space(directions.T, rcond=1e-10)
    if dual.shape[1] == 1 and (np.all(dual > 0) or np.all(dual < 0)):
        share = dual[:, 0] / dual.sum()
        value = float(np.exp(share @ np.log(t / share)))
        terms[live] = scale * value * share
        wanted = np.log(t / (value * share)) / 2
        return LayerMinimum(scale * value, terms, lstsq(basis[live], wanted)[0], 0.0, gone, "closed form", 0)
    exponents, gap, steps = _minimise_by_newton(t, directions)
    terms[live] = scale * t * np.exp(-2 * exponents)
    return LayerMinimum(float(terms.sum()), terms, lstsq(basis[live], exponents)[0], gap, gone, "newton", steps)


def check_finite(what: str, values: Array) -> None:
    """Raise InvalidInput where one of the values is NaN or infinite."""
    finite = np.isfinite(values)
    if not finite.all():
        bad = values[~finite].flat[0]
        raise InvalidInput(f"{what} must be finite, and {np.count_nonzero(~finite)} of {values.size} are not: {bad}")


def check_not_negative(curvature: Mapping[str, Array]) -> None:
    """Raise InvalidInput where entries of one of these arrays are below 0 by more than rounding.

    The sum over rescalings has no lower bound where a negative entry can be scaled up.
    """
    largest = max((np.abs(values).max(initial=0.0) for values in curvature.values()), default=0.0)
    for what, values in curvature.items():
        below = values < -max(NEGATIVE * np.abs(values).max(initial=0.0), ROUNDING * largest)
        if below.any():
            raise InvalidInput(
                f"{what} must not be negative, and {np.count_nonzero(below)} of {values.size} are, down to "
                f"{values.min():.3g}: the loss is not convex in the outputs"
            )


def _minimise_by_newton(t: Array, directions: Array) -> tuple[Array, float, int]:
    """Minimise sum t exp(-2 Q v) for orthonormal Q [blocks, dimension]: exponents Q v, duality gap, steps.

    The dual of log sum t exp(-2 Q v) is to maximise p . log(t / p) over p >= 0, sum p = 1, Q^T p = 0. The
    Newton step makes such a p of the current terms; the difference of both values bounds the error.
    """
    v = directions.T @ (np.log(t) / 2)  # balances the logarithms in the least-squares sense
    best, best_gap, step = v, np.inf, 0
    while best_gap > GAP_TOLERANCE and step < MAX_STEPS:
        step += 1
        terms = t * np.exp(-2 * (directions @ v))
        total = terms.sum()
        p = terms / total
        hessian = directions.T @ (p[:, None] * directions)
        move = lstsq(hessian, directions.T @ p)[0] / 2  # the Newton step of the sum
        dual = p * (1 - 2 * (directions @ move))
        gap = _duality_gap(total, t, dual)
        if gap < best_gap:
            best, best_gap = v, gap
        v = v + _search_step_length(t, directions, v, move) * move
    return directions @ best, float(best_gap), step


def _duality_gap(total: float, t: Array, dual: Array) -> float:
    """log of the primal value minus the dual value at `dual`, scaled to sum 1; infinite where infeasible."""
    if np.any(dual <= 0):
        return np.inf
    p = dual / dual.sum()
    return abs(float(np.log(total) - p @ np.log(t / p)))


def _search_step_length(t: Array, directions: Array, v: Array, move: Array) -> float:
    """A step length that does not raise the sum, by halving; the sum is convex, so a short enough step lowers it."""

    def value(length: float) -> float:
        with np.errstate(over="ignore"):
            return float(np.sum(t * np.exp(-2 * (directions @ (v + length * move)))))

    start, length = value(0.0), 1.0
    while value(length) > start and length > 1e-12:
        length /= 2
    return length


def find_vanishing_terms(exponents: Array | csr_array) -> NDArray[np.bool_]:
    """Whether each term exp(-2 (E u)_b), E [terms, dimension], falls to 0 along a direction u in which no term grows.

    Solves: maximise sum z over 0 <= z <= 1, z <= E u. Terms with z > 0 vanish, all along one direction; the infimum
    of the sum is then not attained.
    """
    terms, dimension = exponents.shape
    if not terms or not dimension:
        return np.zeros(terms, dtype=bool)
    rows = csr_array(exponents if isinstance(exponents, csr_array) else orth(exponents, rcond=1e-10))
    dimension = rows.shape[1]
    if not dimension:
        return np.zeros(terms, dtype=bool)
    programme: Any = linprog  # its stubs know no sparse matrices
    solved = programme(
        np.concatenate((np.zeros(dimension), -np.ones(terms))),
        A_ub=hstack((-rows, eye_array(terms)), format="csr"),
        b_ub=np.zeros(terms),
        bounds=[(None, None)] * dimension + [(0.0, 1.0)] * terms,
        method="highs",
    )
    if solved.x is None:
        raise RuntimeError(f"the linear programme for vanishing terms failed: {solved.message}")
    return np.asarray(solved.x[dimension:] > 0.5)
