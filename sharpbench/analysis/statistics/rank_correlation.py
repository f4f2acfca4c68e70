"""Kendall's tau with its interval, over all networks and within cells.

Tau is Kendall's tau-b (scipy). Its 95 % interval is for the expected tau when as many networks are trained again at the
same configurations, or, where `units` are given, when units are drawn again (`jackknife_pairs`). docs/protocol.md
says how often it covers that value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau

from sharpbench.analysis.statistics.cell_taus import cell_taus, pair_signs, stacked_kernel, sum_pairs
from sharpbench.analysis.statistics.inputs import (
    check_arrays,
    explain_no_interval,
    explain_undefined,
    is_constant,
    stack_by_size,
    to_floats,
    unit_codes,
    untied_share,
)
from sharpbench.analysis.statistics.interval import Interval, correlation_interval
from sharpbench.analysis.statistics.jackknife import (
    Floats,
    Integers,
    Jackknife,
    Kernel,
    center_shares,
    jackknife_pairs,
    jackknife_stack,
)
from sharpbench.analysis.statistics.marginal_jackknife import jackknife_marginal
from sharpbench.analysis.statistics.uncertainty import Uncertainty, assess_uncertainty

MIN_MARGINAL_CELL = 3
"""Networks per cell that an interval of the marginal tau needs at least."""

MIN_WITHIN_CELL = 5
"""Networks per cell that an interval of the tau within cells needs at least."""


@dataclass(frozen=True, slots=True)
class Tau:
    """A rank correlation, its interval, and the reason where either is missing.

    Args:
        networks: The number of networks that entered.
        cells: The number of cells, or for the tau within cells the number of those in which tau is defined.
    """

    value: float | None
    interval: Interval | None
    reason: str | None
    networks: int
    cells: int


def kendall_tau(x: ArrayLike, y: ArrayLike) -> float | None:
    """Kendall's tau-b; None where it is undefined: fewer than two values, or one side constant.

    >>> kendall_tau([1, 2, 3], [1, 3, 2])
    0.33333333333333
    """
    first, second = to_floats(x, "x"), to_floats(y, "y")
    if len(first) != len(second):
        raise ValueError(f"x has {len(first)} values and y has {len(second)}; give one of each per network")
    if len(first) < 2 or is_constant(first) or is_constant(second):
        return None
    return round(_tau_b(first, second), ndigits=14)  # a perfect order is 1


def _tau_b(x: Floats, y: Floats) -> float:
    """Kendall's tau-b where it is defined."""
    # The method concerns scipy's p-value, which is unused; the cheap one divides by zero for two values.
    return float(kendalltau(x, y, method="asymptotic" if len(x) > 2 else "auto").statistic)


def marginal_tau(
    x: ArrayLike, y: ArrayLike, cells: Sequence[int] | Integers, units: Sequence[int] | Integers | None = None
) -> Tau:
    """Tau over all networks, whatever their cell.

    Args:
        x: [n] The measure.
        y: [n] The gap.
        cells: [n] One integer per network, equal where the hyperparameters are; the interval needs them.
        units: [n] Equal for networks that are drawn together; None where each network is drawn in its cell.
    """
    first, second, codes = check_arrays(x, y, cells)
    together = None if units is None else unit_codes(units, len(first))
    value, count = kendall_tau(first, second), len(np.unique(codes))
    why = explain_no_marginal_interval(first, second, codes, together)
    if value is None or why:
        return Tau(value, None, why, len(first), count)
    known = marginal_estimates([first], second, codes, together).uncertainty(np.ones(1))
    return Tau(value, correlation_interval(value, known), None, len(first), count)


def within_tau(
    x: ArrayLike, y: ArrayLike, cells: Sequence[int] | Integers, units: Sequence[int] | Integers | None = None
) -> Tau:
    """The mean over cells of the tau within each cell, without the cells where tau is undefined.

    Differences between cells cannot raise it. Arguments as in `marginal_tau`.
    """
    first, second, codes = check_arrays(x, y, cells)
    together = None if units is None else unit_codes(units, len(first))
    taus, defined = cell_taus(first, second, codes)
    inside = int(defined.sum())
    value = _mean_of_cells(taus, defined)
    why = explain_no_within_interval(first, second, codes, together)
    if value is None or why:
        return Tau(value, None, why, len(first), inside)
    known = within_estimates([first], second, codes, together).uncertainty(np.ones(1))
    return Tau(value, correlation_interval(value, known), None, len(first), inside)


def within_value(x: Floats, y: Floats, cells: Integers) -> float | None:
    """The value of `within_tau` without its interval."""
    return _mean_of_cells(*cell_taus(x, y, cells))


def _mean_of_cells(taus: Floats, defined: NDArray[np.bool_]) -> float | None:
    return round(float(taus[defined].mean()), ndigits=14) if defined.any() else None


def explain_no_marginal_interval(x: Floats, y: Floats, cells: Integers, units: Integers | None) -> str | None:
    """Why the marginal tau, or else its interval, is missing; None where neither is."""
    if len(x) < 2 or is_constant(x) or is_constant(y):
        return explain_undefined(x, y)
    return explain_no_interval(cells, units, MIN_MARGINAL_CELL)


def explain_no_within_interval(x: Floats, y: Floats, cells: Integers, units: Integers | None) -> str | None:
    """Why the tau within cells, or else its interval, is missing; None where neither is."""
    used = cell_taus(x, y, cells)[1][cells]
    if not used.any():
        return _undefined_within(x, y, cells)
    if units is None:
        return explain_no_interval(cells, None, MIN_WITHIN_CELL)
    return explain_no_interval(cells[used], units[used], 0)


@dataclass(frozen=True, slots=True, eq=False)
class TauEstimates:
    """The taus of M measures on the same networks, with what their variances and those of differences follow from.

    Args:
        values: [M]; 0 where tau is undefined.
        weights: [M, K] The share of each cell in the tau; 0 where the tau of the cell is undefined.
        untied: [M] The share of the compared pairs that are not tied.
        entering: [M, n] Which networks, or units, enter the tau.
        noise: [M] A further variance of each tau, from the errors of the values; None: their errors are left out.
    """

    values: Floats
    jackknife: Jackknife
    weights: Floats
    untied: Floats
    entering: NDArray[np.bool_]
    noise: Floats | None = None

    def uncertainty(self, coefficients: Floats) -> Uncertainty:
        """The uncertainty of the sum of the taus times `coefficients` [M]."""
        known = self._without_noise(coefficients)
        if self.noise is None:
            return known
        return replace(known, further=float(coefficients**2 @ self.noise))

    def _without_noise(self, coefficients: Floats) -> Uncertainty:
        chosen = coefficients != 0
        drawn = self.entering[chosen].any(axis=0)
        single, excess = self.jackknife.combine(coefficients)
        return assess_uncertainty(
            single[drawn],
            excess,
            self.jackknife.cells[drawn],
            self.weights[chosen].max(axis=0),
            untied=float(self.untied[chosen].min()),
        )


def marginal_estimates(measures: Sequence[Floats], y: Floats, cells: Integers, units: Integers | None) -> TauEstimates:
    """The marginal taus of several measures."""
    if len(measures) == 1 and units is None and not (is_constant(measures[0]) or is_constant(y)):
        found = jackknife_marginal(measures[0], y, cells, _tau_b(measures[0], y))
    else:
        found = jackknife_pairs([marginal_kernel(x, y) for x in measures], cells, units)
    return TauEstimates(
        np.array([kendall_tau(x, y) or 0.0 for x in measures]),
        found,
        np.tile(np.bincount(found.cells), (len(measures), 1)),
        np.array([untied_share(x, y) for x in measures]),
        np.ones(found.single.shape, dtype=np.bool_),
    )


def within_estimates(measures: Sequence[Floats], y: Floats, cells: Integers, units: Integers | None) -> TauEstimates:
    """The taus within cells of several measures.

    Units that hold whole cells give a mean of independent taus. Units that are parts of cells, such as one network of
    each cell, leave pairs between units.
    """
    taus, defined = (np.array(each) for each in zip(*(cell_taus(x, y, cells) for x in measures), strict=True))
    share = defined / np.maximum(defined.sum(axis=1, keepdims=True), 1)  # [M, K]
    values = np.array([round(float(each), ndigits=14) for each in (taus * share).sum(axis=1)])
    sizes = np.bincount(cells)
    pairs = np.array([sum_pairs(x, y, cells)[3] for x in measures]) / np.maximum(sizes * (sizes - 1), 1)
    untied = (pairs * share).sum(axis=1)
    if units is None:
        found = _jackknife_each_cell(measures, y, cells, share)
        return TauEstimates(values, found, share, untied, np.ones(found.single.shape, dtype=np.bool_))
    entering = _sum_by_unit(defined[:, cells], units) > 0  # [M, U]
    if len(np.unique(np.stack([cells, units]), axis=1).T) > len(sizes):
        found = jackknife_pairs([within_kernel(x, y, cells) for x in measures], cells, units)
    else:
        shares = _sum_by_unit((taus * share / sizes)[:, cells], units)  # [M, U]
        single = np.zeros(shares.shape)
        for each, enters, into in zip(shares, entering, single, strict=True):
            into[enters] = center_shares(each[None, enters], np.zeros(int(enters.sum()), dtype=np.intp))[0]
        found = Jackknife(single, np.zeros((1, len(measures), len(measures))), np.zeros(len(shares[0]), dtype=np.intp))
    return TauEstimates(values, found, np.ones((len(measures), 1)), untied, entering)


def _sum_by_unit(values: NDArray[Any], units: Integers) -> Floats:
    """[M, U] The sums of values [M, n] over the networks of each unit."""
    found: Floats = np.array([np.bincount(units, each) for each in values])
    return found


MAX_STACKED_SIZE = 32
"""Networks of cells that are evaluated many at a time; in larger ones a call for each cell costs little."""
MAX_STACKED_ENTRIES = 2**21


def _jackknife_each_cell(measures: Sequence[Floats], y: Floats, cells: Integers, share: Floats) -> Jackknife:
    """The jackknife of the weighted sums of the cells' taus; share [M, K], 0 where tau is undefined."""
    count = len(measures)
    single = np.zeros((count, len(y)))
    excess = np.zeros((share.shape[1], count, count))
    for members in stack_by_size(cells):
        size = members.shape[1]
        step = max(1, MAX_STACKED_ENTRIES // (count * size**2)) if size <= MAX_STACKED_SIZE else 1
        for start in range(0, len(members), step):
            chosen = members[start : start + step]
            cell = cells[chosen[:, 0]]
            if size <= MAX_STACKED_SIZE:
                kernels = np.stack([stacked_kernel(x[chosen], y[chosen]) for x in measures])
                inside, products = jackknife_stack(kernels)
            else:
                kept = chosen[0]
                found = jackknife_pairs([marginal_kernel(x[kept], y[kept]) for x in measures], np.zeros_like(kept))
                inside, products = found.single[:, None], found.excess
            single[:, chosen] = inside * share[:, cell, None]
            excess[cell] = products * share.T[cell][:, :, None] * share.T[cell][:, None]
    return Jackknife(single, excess, cells)


def marginal_kernel(x: Floats, y: Floats) -> Kernel:
    """A kernel whose sum is, to first order, the deviation of tau-b from its expectation.

    It is the delta method on

        tau = sum(agree) / sqrt(sum(|sign x|) sum(|sign y|)),  agree = sign(x_i - x_j) sign(y_i - y_j).

    All entries are 0 where tau is undefined.
    """
    untied_x, untied_y = (_count_untied(values) for values in (x, y))
    scale = float(np.sqrt(untied_x * untied_y))
    if not scale:
        return lambda chosen: np.zeros((len(chosen), len(x)))
    tau, entries = _tau_b(x, y), np.empty(9)
    for sign_x, sign_y in product((-1, 0, 1), repeat=2):  # negative places count from the end
        entries[3 * sign_x + sign_y] = sign_x * sign_y / scale - tau / 2 * (
            abs(sign_x) / untied_x + abs(sign_y) / untied_y
        )

    def rows(chosen: Integers) -> Floats:
        codes = pair_signs(x[chosen, None], x) * np.int8(3) + pair_signs(y[chosen, None], y)
        found: Floats = entries[codes]
        return found

    return rows


def within_kernel(x: Floats, y: Floats, cells: Integers) -> Kernel:
    """The same kernel for the mean over cells of the tau within each cell."""
    defined = int(cell_taus(x, y, cells)[1].sum())
    kernel = np.zeros((len(x), len(x)))
    for cell in range(int(cells.max()) + 1):
        inside = np.flatnonzero(cells == cell)
        part = marginal_kernel(x[inside], y[inside])(np.arange(len(inside)))
        kernel[np.ix_(inside, inside)] = part / max(1, defined)
    return kernel.__getitem__


def _count_untied(values: Floats) -> int:
    """The number of ordered pairs that are not tied."""
    counts = np.unique(values, return_counts=True)[1]
    return len(values) ** 2 - int((counts**2).sum())


def _undefined_within(x: Floats, y: Floats, codes: Integers) -> str:
    if len(x) < 2 or is_constant(x) or is_constant(y):
        return explain_undefined(x, y)
    if len(np.unique(codes)) == len(codes):
        return "no two networks share a cell"
    return "within each cell the measure or the gap is the same for all networks"
