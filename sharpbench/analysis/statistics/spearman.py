"""Spearman's correlation with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata, spearmanr

from sharpbench.analysis.statistics.inputs import (
    check_arrays,
    explain_no_interval,
    explain_undefined,
    is_constant,
    unit_codes,
    untied_share,
)
from sharpbench.analysis.statistics.interval import correlation_interval
from sharpbench.analysis.statistics.jackknife import Floats, Integers, jackknife_shares
from sharpbench.analysis.statistics.rank_correlation import MIN_MARGINAL_CELL, Tau
from sharpbench.analysis.statistics.uncertainty import assess_uncertainty

MIN_SPEARMAN_NETWORKS = 50
"""Networks that an interval of Spearman's correlation needs at least. With fewer, one network that is far from its
place may decide the correlation, and where none is seen the interval is too short."""


def spearman_correlation(
    x: ArrayLike, y: ArrayLike, cells: Sequence[int] | Integers, units: Sequence[int] | Integers | None = None
) -> Tau:
    """Spearman's correlation over all networks; ties share their mean rank (scipy). Arguments as in `marginal_tau`."""
    first, second, codes = check_arrays(x, y, cells)
    together = None if units is None else unit_codes(units, len(first))
    count = len(np.unique(codes))
    if len(first) < 2 or is_constant(first) or is_constant(second):
        return Tau(None, None, explain_undefined(first, second), len(first), count)
    value = spearman_value(first, second)
    why = explain_no_interval(codes, together, MIN_MARGINAL_CELL)
    if not why and together is None and len(first) < MIN_SPEARMAN_NETWORKS:
        why = f"{len(first)} networks, an interval needs {MIN_SPEARMAN_NETWORKS}"
    if why:
        return Tau(value, None, why, len(first), count)
    found = jackknife_shares(spearman_influence(first, second)[None] / len(first), codes, together)
    single, excess = found.combine(np.ones(1))
    weights = np.bincount(found.cells).astype(float)
    known = assess_uncertainty(single, excess, found.cells, weights, untied=untied_share(first, second))
    return Tau(value, correlation_interval(value, known), None, len(first), count)


def spearman_value(x: Floats, y: Floats) -> float:
    """Spearman's correlation of values that are not constant."""
    return round(float(spearmanr(x, y).statistic), ndigits=14)


def spearman_influence(x: Floats, y: Floats) -> Floats:
    """[n] The derivatives of Spearman's correlation by the weights of the networks, times n; sum 0.

    With weights w (sum 1) the rank of i is u_i = sum_j w_j ([x_j < x_i] + [x_j = x_i] / 2), and the correlation
    C(u, v) / sqrt(C(u, u) C(v, v)), C(u, v) = sum_i w_i (u_i - 1/2)(v_i - 1/2).
    """
    mean = len(x)
    u, v = ((rankdata(values) - 0.5) / mean - 0.5 for values in (x, y))
    change_uv = u * v + (_sum_above(x, v) + _sum_above(y, u)) / mean
    change_uu, change_vv = u * u + 2 * _sum_above(x, u) / mean, v * v + 2 * _sum_above(y, v) / mean
    uu, vv, uv = u @ u / mean, v @ v / mean, u @ v / mean
    value = uv / np.sqrt(uu * vv)
    change = change_uv / np.sqrt(uu * vv) - value / 2 * (change_uu / uu + change_vv / vv)
    centred: Floats = change - change.mean()
    return centred


def _sum_above(values: Floats, summed: Floats) -> Floats:
    """[n] The sum of `summed` over the networks with a larger value, and half of that over those with an equal one."""
    order = np.argsort(values)
    ascending = values[order]
    total = np.concatenate([[0.0], np.cumsum(summed[order])])
    below, upto = (total[np.searchsorted(ascending, values, side=side)] for side in ("left", "right"))
    found: Floats = total[-1] - (below + upto) / 2
    return found
