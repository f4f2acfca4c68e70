"""Kendall's tau and Spearman's correlation with intervals, over all networks and within cells.

Tau is Kendall's tau-b (scipy). Its 95 % interval is for the expected tau when as many networks are trained again at the
same configurations, or, where `units` are given, when units are drawn again (`jackknife_variance`). docs/protocol.md
says how often it covers that value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau, spearmanr

from sharpbench.analysis.statistics.inputs import (
    check_arrays,
    degrees_of_freedom,
    explain_no_interval,
    explain_undefined,
    is_constant,
    to_floats,
    unit_codes,
)
from sharpbench.analysis.statistics.interval import Interval, correlation_interval
from sharpbench.analysis.statistics.jackknife import (
    Floats,
    Integers,
    JackknifeVariance,
    jackknife_variance,
    linear_variance,
)

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
    # The method concerns scipy's p-value, which is unused; the cheap one divides by zero for two values.
    found = kendalltau(first, second, method="asymptotic" if len(first) > 2 else "auto")
    return round(float(found.statistic), ndigits=14)  # a perfect order is 1


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
    if value is None:
        return Tau(None, None, explain_undefined(first, second), len(first), count)
    why = explain_no_interval(codes, together, MIN_MARGINAL_CELL)
    if why:
        return Tau(value, None, why, len(first), count)
    variance = jackknife_variance(marginal_kernel(first, second), codes, together).variance()
    freedom, drawn = degrees_of_freedom(codes, together)
    return Tau(value, correlation_interval(value, variance, freedom=freedom, networks=drawn), None, len(first), count)


def within_tau(
    x: ArrayLike, y: ArrayLike, cells: Sequence[int] | Integers, units: Sequence[int] | Integers | None = None
) -> Tau:
    """The mean over cells of the tau within each cell, without the cells where tau is undefined.

    Differences between cells cannot raise it. Arguments as in `marginal_tau`.
    """
    first, second, codes = check_arrays(x, y, cells)
    together = None if units is None else unit_codes(units, len(first))
    taus, defined = cell_taus(first, second, codes)
    used, inside = defined[codes], int(defined.sum())
    if not inside:
        return Tau(None, None, _undefined_within(first, second, codes), len(first), 0)
    value = round(float(taus[defined].mean()), ndigits=14)
    if together is None:
        why = explain_no_interval(codes, None, MIN_WITHIN_CELL)
    else:
        why = explain_no_interval(codes[used], together[used], 0)
    if why:
        return Tau(value, None, why, len(first), inside)
    variance = within_variance(first, second, codes, together).variance()
    freedom, drawn = degrees_of_freedom(codes[used], None if together is None else together[used])
    interval = correlation_interval(value, variance, freedom=freedom, networks=drawn)
    return Tau(value, interval, None, len(first), inside)


def cell_taus(x: Floats, y: Floats, cells: Integers) -> tuple[Floats, NDArray[np.bool_]]:
    """[K], [K] Kendall's tau-b within each cell, and whether it is defined: neither side is constant there."""
    sums = [np.bincount(cells, each.sum(axis=1)) for each in _signs_within(x, y, cells)]
    product = sums[1] * sums[2]
    taus = np.divide(sums[0], np.sqrt(product), out=np.zeros(len(product)), where=product > 0)
    return taus, product > 0


def has_cell_tau(x: Floats, y: Floats, cells: Integers) -> NDArray[np.bool_]:
    """[n] Whether tau is defined in the network's cell."""
    used: NDArray[np.bool_] = cell_taus(x, y, cells)[1][cells]
    return used


def _signs_within(x: Floats, y: Floats, cells: Integers) -> tuple[Floats, Floats, Floats]:
    """[n, n] For pairs within cells: sign(x_i - x_j) sign(y_i - y_j), whether x is untied, and whether y is."""
    same = cells[:, None] == cells
    sign_x, sign_y = np.sign(np.subtract.outer(x, x)) * same, np.sign(np.subtract.outer(y, y)) * same
    return sign_x * sign_y, np.abs(sign_x), np.abs(sign_y)


def marginal_kernel(x: Floats, y: Floats) -> Floats:
    """[n, n] A kernel whose sum is, to first order, the deviation of tau-b from its expectation.

    It is the delta method on

        tau = sum(agree) / sqrt(sum(|sign x|) sum(|sign y|)),  agree = sign(x_i - x_j) sign(y_i - y_j).

    All entries are 0 where tau is undefined.
    """
    sign_x, sign_y = np.sign(np.subtract.outer(x, x)), np.sign(np.subtract.outer(y, y))
    untied_x, untied_y = np.abs(sign_x), np.abs(sign_y)
    total_x, total_y = untied_x.sum(), untied_y.sum()
    if not total_x or not total_y:
        return np.zeros_like(sign_x)
    agree = sign_x * sign_y / np.sqrt(total_x * total_y)
    kernel: Floats = agree - agree.sum() / 2 * (untied_x / total_x + untied_y / total_y)
    return kernel


def within_kernel(x: Floats, y: Floats, cells: Integers) -> Floats:
    """[n, n] The same kernel for the mean over cells of the tau within each cell."""
    agree, untied_x, untied_y = _signs_within(x, y, cells)
    taus, defined = cell_taus(x, y, cells)
    total_x, total_y = (np.bincount(cells, each.sum(axis=1))[cells][:, None] for each in (untied_x, untied_y))
    used = defined[cells][:, None]
    parts = [
        np.divide(top, bottom, out=np.zeros_like(agree), where=used)
        for top, bottom in ((agree, np.sqrt(total_x * total_y)), (untied_x, total_x), (untied_y, total_y))
    ]
    kernel: Floats = (parts[0] - taus[cells][:, None] / 2 * (parts[1] + parts[2])) / max(1, defined.sum())
    return kernel


def within_variance(x: Floats, y: Floats, cells: Integers, units: Integers | None) -> JackknifeVariance:
    """The variance of the tau within cells.

    Units that hold whole cells give a mean of independent taus. Units that are parts of cells, such as one network of
    each cell, leave pairs between units.
    """
    if units is None or len(np.unique(np.stack([cells, units]), axis=1).T) > len(np.unique(cells)):
        return jackknife_variance(within_kernel(x, y, cells), cells, units)
    taus, defined = cell_taus(x, y, cells)
    used = defined[cells]
    share = (taus / np.bincount(cells) / max(1, defined.sum()))[cells]
    counted, codes = np.unique(units[used], return_inverse=True)
    single = np.zeros(units.max() + 1)  # one per unit, 0 where it does not enter, so that measures stay comparable
    single[counted] = linear_variance(share[used], codes, codes).single
    return JackknifeVariance(single, np.zeros(1))


def _undefined_within(x: Floats, y: Floats, codes: Integers) -> str:
    if len(x) < 2 or is_constant(x) or is_constant(y):
        return explain_undefined(x, y)
    if len(np.unique(codes)) == len(codes):
        return "no two networks share a cell"
    return "within each cell the measure or the gap is the same for all networks"


def spearman_correlation(
    x: ArrayLike, y: ArrayLike, cells: Sequence[int] | Integers, units: Sequence[int] | Integers | None = None
) -> Tau:
    """Spearman's correlation over all networks; ties share their mean rank (scipy). Arguments as in `marginal_tau`."""
    first, second, codes = check_arrays(x, y, cells)
    together = None if units is None else unit_codes(units, len(first))
    count = len(np.unique(codes))
    if len(first) < 2 or is_constant(first) or is_constant(second):
        return Tau(None, None, explain_undefined(first, second), len(first), count)
    value = round(float(spearmanr(first, second).statistic), ndigits=14)
    why = explain_no_interval(codes, together, MIN_MARGINAL_CELL)
    if why:
        return Tau(value, None, why, len(first), count)
    freedom, drawn = degrees_of_freedom(codes, together)
    variance = linear_variance(spearman_influence(first, second) / len(first), codes, together).variance()
    return Tau(value, correlation_interval(value, variance, freedom=freedom, networks=drawn), None, len(first), count)


def spearman_influence(x: Floats, y: Floats) -> Floats:
    """[n] The derivatives of Spearman's correlation by the weights of the networks, times n; sum 0.

    With weights w (sum 1) the rank of i is u_i = sum_j w_j ([x_j < x_i] + [x_j = x_i] / 2), and the correlation
    C(u, v) / sqrt(C(u, u) C(v, v)), C(u, v) = sum_i w_i (u_i - 1/2)(v_i - 1/2).
    """
    below_x, below_y = _midranks(x), _midranks(y)  # [n, n], row i: which of the others are below i
    u, v = below_x.mean(axis=1) - 0.5, below_y.mean(axis=1) - 0.5
    mean = len(x)
    change_uv = u * v + (below_x.T @ v + below_y.T @ u) / mean
    change_uu, change_vv = u * u + 2 * below_x.T @ u / mean, v * v + 2 * below_y.T @ v / mean
    uu, vv, uv = u @ u / mean, v @ v / mean, u @ v / mean
    value = uv / np.sqrt(uu * vv)
    change = change_uv / np.sqrt(uu * vv) - value / 2 * (change_uu / uu + change_vv / vv)
    centred: Floats = change - change.mean()
    return centred


def _midranks(values: Floats) -> Floats:
    found: Floats = (np.sign(np.subtract.outer(values, values)) + 1) / 2
    return found
