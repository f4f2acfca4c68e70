"""The minimum of a sum of d exp(-2 e.u) over the potentials u of single units, for sparse signed exponents e.

For a chain of layers this is matrix balancing (Osborne 1960): a weight between units i and o has the exponent
u_o - u_i. Attention makes the graph signed: where a query channel has u, its key channel has -u.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from sharpbench.symmetry.minimum.terms import Block, Terms, deduplicate_rows, drop_vanishing_terms

Array = NDArray[np.float64]
Index = NDArray[np.int64]
GRADIENT_TOLERANCE = 1e-12
MAX_STEPS = 200
MAX_SWEEPS = 30
MIN_SWEEP_GAIN = 1e-3
"""Newton's method starts when a sweep lowers the sum by less than this share."""
MAX_GROUPS = 1000
"""Up to this number of layers, the preconditioner solves for their joint moves directly."""


@dataclass(frozen=True, slots=True, eq=False)
class BalancedTerms:
    """The infimum over u of the sum of all terms.

    value: the infimum. parts: its share by parameter. u: the minimiser [dimension], or a point near the infimum
    where it is not attained. gradient: the largest derivative of log(sum) by a potential. gap: half the square
    of the Newton decrement relative to the value: to second order, how far the value lies above the infimum.
    vanishing: the number of entries (of summed terms) that can be driven to 0 together, by parameter; empty where
    the infimum is attained; None where that is unknown. steps: of Newton's method.
    """

    value: float
    parts: dict[str, float]
    u: Array
    gradient: float
    gap: float
    vanishing: dict[str, int] | None
    steps: int


def balance_terms(terms: Terms) -> BalancedTerms:
    """The minimum of the sum of the terms, by Newton's method with conjugate gradients.

    The sum is convex in u. Terms that can be driven to 0 are found first and left out: in the graph whose arrows state
    that one signed potential must not fall below another, they are the arrows between strongly connected parts. Sweeps
    follow, in which every potential moves towards the balance of its own terms, then Newton steps. A step of conjugate
    gradients costs two products with every block; 100,000 units take seconds to a minute.
    """
    live, gone = drop_vanishing_terms(terms)
    total = _Sum(terms.potentials, live)
    u, gradient, gap, steps = _minimise_by_newton(total, _sweep(total, np.zeros(terms.potentials.shape[1])))
    z = terms.potentials @ u
    parts = {block.name: _block_value(block, z) for block in live}
    return BalancedTerms(sum(parts.values()), parts, u, gradient, gap, gone, steps)


def _block_value(block: Block, z: Array) -> float:
    return float(np.exp(-2 * z[block.rows]) @ block.values @ np.exp(-2 * z[block.columns]))


@dataclass(frozen=True, slots=True, eq=False)
class _Point:
    """The sum at one u: the factors and products of each matrix, and for each potential the sum of its terms."""

    value: float
    sums: Array
    weights: Array
    factors: list[tuple[Array, Array, Array, Array]]


class _Sum:
    """sum_p w_p exp(-2 z_p) + sum over matrices a^T D b, for a = exp(-2 z_rows), b = exp(-2 z_columns), z = X u."""

    def __init__(self, potentials: csr_array, blocks: list[Block]) -> None:
        self.X, self.XT = potentials, csr_array(potentials.T)
        self.squares = csr_array(self.XT.multiply(self.XT))
        self.up, self.down = csr_array(self.XT.maximum(0)), csr_array((-self.XT).maximum(0))
        self.weights = np.zeros(potentials.shape[0])
        self.matrices = []
        for block in blocks:
            if block.single:
                np.add.at(self.weights, block.rows, block.values[:, 0])
            else:
                self.matrices.append(block)
        self.groups, self.together, self.kind = self._together()

    def at(self, u: Array) -> _Point:
        """The sum at u."""
        with np.errstate(over="ignore", invalid="ignore"):
            e = np.exp(-2 * (self.X @ u))
            weights = self.weights * e
            value, sums, factors = float(weights.sum()), weights.copy(), []
            for block in self.matrices:
                a, b = e[block.rows], e[block.columns]
                p, q = a * (block.values @ b), b * (a @ block.values)
                value += float(p.sum())
                sums[block.rows] += p
                sums[block.columns] += q
                factors.append((a, b, p, q))
        return _Point(value, sums, weights, factors)

    def gradient(self, point: _Point) -> Array:
        """The gradient by u."""
        return np.asarray(-2 * (self.XT @ point.sums))

    def curvature(self, point: _Point, v: Array) -> Array:
        """The Hessian times v."""
        y = self.X @ v
        h = point.weights * y
        for block, (a, b, p, q) in zip(self.matrices, point.factors, strict=True):
            row, column = y[block.rows], y[block.columns]
            h[block.rows] += p * row + a * (block.values @ (b * column))
            h[block.columns] += q * column + b * ((a * row) @ block.values)
        return np.asarray(4 * (self.XT @ h))

    def diagonal(self, point: _Point) -> Array:
        """The Hessian's diagonal, except for exponents in which rows and columns share a unit."""
        return np.asarray(4 * (self.squares @ point.sums))

    def _together(self) -> tuple[Index, Array, Index]:
        """The group of each unit; C [kinds, groups] and each potential's kind, its changes as groups move by 1.

        Units on the same sides of the same matrices are a group, mostly a layer. Above MAX_GROUPS there are no groups.
        """
        draw, size = np.random.default_rng(0), self.X.shape[1]
        mark = np.zeros(size, dtype=np.uint64)
        for block in self.matrices:
            for side in (block.rows, block.columns):
                moved = self.X[side]
                for sign in (1, -1):
                    mark[moved.indices[moved.data * sign > 0]] += draw.integers(2**63, dtype=np.uint64)
        different, group = np.unique(mark, return_inverse=True)
        if len(different) > MAX_GROUPS:
            return group, np.zeros((1, 0)), np.zeros(self.X.shape[0], dtype=np.int64)
        joint = self.X @ coo_array((np.ones(size), (np.arange(size), group)), shape=(size, len(different))).tocsr()
        kinds, kind = deduplicate_rows(csr_array(joint))
        return group, kinds.toarray(), kind

    def grouped(self, point: _Point) -> Array:
        """The Hessian of moving whole groups [groups, groups]."""
        count = len(self.together)
        total: Array = np.diag(np.asarray(np.bincount(self.kind, point.sums, count), dtype=np.float64))
        for block, (a, b, p, q) in zip(self.matrices, point.factors, strict=True):
            upper, row = np.unique(self.kind[block.rows], return_inverse=True)
            lower, column = np.unique(self.kind[block.columns], return_inverse=True)
            if len(upper) == 1:
                shared = np.asarray(np.bincount(column, q)[None, :], dtype=np.float64)
            elif len(lower) == 1:
                shared = np.asarray(np.bincount(row, p)[:, None], dtype=np.float64)
            else:
                by_row = (np.eye(len(upper))[:, row] * a) @ block.values * b
                shared = by_row @ np.eye(len(lower))[column]
            total[np.ix_(upper, lower)] += shared
            total[np.ix_(lower, upper)] += shared.T
        return np.asarray(4 * (self.together.T @ total @ self.together))

    def halfway(self, u: Array, point: _Point) -> Array:
        """u with every potential moved half of the way to the balance of its own terms.

        With two units in each exponent the sum does not rise, since exp(-2 (x - y)) is at most the mean of exp(-4 x)
        and exp(4 y).
        """
        up, down = self.up @ point.sums, self.down @ point.sums
        both = (up > 0) & (down > 0)
        moved = u.copy()
        moved[both] += np.log(up[both] / down[both]) / 8
        return moved


def _sweep(total: _Sum, u: Array) -> Array:
    """u after sweeps over all potentials, as long as each lowers the sum by MIN_SWEEP_GAIN."""
    point = total.at(u)
    for _ in range(MAX_SWEEPS):
        moved = total.halfway(u, point)
        following = total.at(moved)
        if following.value > point.value:
            break
        gain, u, point = point.value - following.value, moved, following
        if gain < MIN_SWEEP_GAIN * point.value:
            break
    return u


def _minimise_by_newton(total: _Sum, u: Array) -> tuple[Array, float, float, int]:
    """Newton's method with conjugate gradients from u: the minimiser, relative gradient and gap, steps."""
    point, best, step = total.at(u), (np.inf, u, np.inf), 0
    while step < MAX_STEPS:
        gradient = total.gradient(point)
        size = float(np.abs(gradient).max(initial=0.0)) / point.value if point.value else 0.0
        move = _newton_direction(total, point, gradient, min(0.1, size)) if size else np.zeros_like(u)
        gap = abs(float(gradient @ move)) / 2 / point.value if size else 0.0
        stalled = size >= best[0] / 2 and best[0] < 1e3 * GRADIENT_TOLERANCE
        if size < best[0]:
            best = (size, u, gap)
        if size <= GRADIENT_TOLERANCE or stalled:
            break
        step += 1
        length = 1.0
        following = total.at(u + move)
        while not following.value <= point.value * (1 + 1e-15) and length > 1e-12:
            length /= 2
            following = total.at(u + length * move)
        if not length > 1e-12:
            break
        u, point = u + length * move, following
    return best[1], best[0], best[2], step


def _newton_direction(total: _Sum, point: _Point, gradient: Array, tolerance: float) -> Array:
    """The Newton step, by preconditioned conjugate gradients to that relative residual."""
    condition = _make_preconditioner(total, point)
    move, residual = np.zeros_like(gradient), -gradient
    scaled = condition(residual)
    direction, product = scaled, float(residual @ scaled)
    wanted = product * max(tolerance, 1e-8) ** 2
    for _ in range(min(2 * len(gradient) + 10, 2000)):
        if product <= wanted:
            break
        image = total.curvature(point, direction)
        bend = float(direction @ image)
        if bend <= 0:
            break
        length = product / bend
        move, residual = move + length * direction, residual - length * image
        scaled = condition(residual)
        product, before = float(residual @ scaled), product
        direction = scaled + (product / before) * direction
    return move


def _make_preconditioner(total: _Sum, point: _Point) -> Callable[[Array], Array]:
    """An approximate inverse of the Hessian, from its diagonal and its restriction to joint moves of groups."""
    diagonal = total.diagonal(point)
    inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
    if not total.together.size:
        return lambda residual: inverse * residual
    coarse = np.linalg.pinv(total.grouped(point), rcond=1e-12, hermitian=True)
    groups = total.groups

    def condition(residual: Array) -> Array:
        return inverse * residual + (coarse @ np.bincount(groups, residual, len(coarse)))[groups]

    return condition
