"""Granulated tau: whether a measure follows the gap along one hyperparameter while the others are fixed.

Psi of Jiang, Neyshabur, Mobahi, Krishnan, Bengio 2020 (Fantastic Generalization Measures and Where to Find Them,
section 4): for an axis, networks that agree in all other hyperparameters are a block; psi is the mean over blocks of
tau, and Psi the mean of psi over axes. Networks of several seeds are crossed: a pair counts where its two networks
differ in the axis. Seeds are therefore neither averaged nor an axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sharpbench.analysis.statistics.axis_pairs import sum_pairs_along
from sharpbench.analysis.statistics.inputs import (
    Axes,
    check_arrays,
    combine_codes,
    explain_no_interval,
    explain_undefined,
    is_constant,
    varied_axes,
)
from sharpbench.analysis.statistics.interval import correlation_interval
from sharpbench.analysis.statistics.jackknife import CellSums, Floats, Integers, jackknife_cell_sums
from sharpbench.analysis.statistics.rank_correlation import MIN_MARGINAL_CELL, Tau
from sharpbench.analysis.statistics.uncertainty import assess_uncertainty


@dataclass(frozen=True, slots=True)
class Granulated:
    """Psi, and the psi of each axis. `cells` counts what was averaged: axes with a psi, or blocks with a tau."""

    overall: Tau
    axes: Mapping[str, Tau]


def granulated_tau(x: ArrayLike, y: ArrayLike, axes: Axes) -> Granulated:
    """Psi of measure x and gap y, with the psi of each axis that has two values.

    In a block tau is the mean of sign(x_i - x_j) sign(y_i - y_j) over its pairs that differ in the axis and in y: a
    tie in x counts 0, and a tie in y is left out. A block without such a pair has no tau, and an axis without such a
    block no psi. Intervals are for networks trained again at the same configurations.
    """
    columns = varied_axes(axes, len(np.asarray(x)))
    first, second, cells = check_arrays(x, y, combine_codes(list(columns.values()), len(np.asarray(x))))
    if len(first) < 2 or is_constant(first) or is_constant(second):
        nothing = Tau(None, None, explain_undefined(first, second), len(first), 0)
        return Granulated(nothing, dict.fromkeys(columns, nothing))
    parts = {name: _axis_tau(first, second, columns, name, cells) for name in columns}
    found = [part for part in parts.values() if part.blocks]
    if not found:
        reason = "no two configurations differ in only one hyperparameter" if columns else "no hyperparameter varies"
        overall = Tau(None, None, reason, len(first), 0)
    else:
        overall = _with_interval(_mean_over_axes(found), cells, len(found))
    reason = "no two configurations differ only in it"
    return Granulated(
        overall,
        {
            name: _with_interval(part, cells, part.blocks) if part.blocks else Tau(None, None, reason, len(first), 0)
            for name, part in parts.items()
        },
    )


def granulated_values(x: Floats, y: Floats, axes: Axes) -> tuple[float | None, dict[str, float]]:
    """The values of `granulated_tau` without their intervals: Psi, and the psi of each axis that has one."""
    if len(x) < 2 or is_constant(x) or is_constant(y):
        return None, {}
    columns = varied_axes(axes, len(x))
    cells = combine_codes(list(columns.values()), len(x))
    parts = {name: _axis_tau(x, y, columns, name, cells) for name in columns}
    found = {name: part.value for name, part in parts.items() if part.blocks}
    return sum(found.values()) / len(found) if found else None, found


@dataclass(frozen=True, slots=True, eq=False)
class _AxisTau:
    """The psi of one axis, the number of blocks where it is defined, and its kernel (see `marginal_kernel`).

    Args:
        kernel: Its sums by network and cell.
        share: [n] The share of each network in the pairs, each counted with its weight.
        untied: The share of these pairs that are tied neither in the measure nor in the gap.
    """

    value: float
    blocks: int
    kernel: CellSums
    share: Floats
    untied: float


def _axis_tau(x: Floats, y: Floats, columns: Mapping[str, Integers], name: str, cells: Integers) -> _AxisTau:
    # ranks of single precision are exact, and no difference of two overflows
    rank_x, rank_y = (np.unique(values, return_inverse=True)[1].astype(np.float32) for values in (x, y))

    def count_signs(one: Integers, other: Integers) -> tuple[NDArray[np.float32], ...]:
        sign_y = np.sign(rank_y[one] - rank_y[other])
        agree = np.sign(rank_x[one] - rank_x[other]) * sign_y
        return agree, np.abs(agree), np.abs(sign_y)

    along = sum_pairs_along(columns, name, cells, count_signs)
    agree, untied, differing = along.sums
    within, blocks_there = along.block[along.network], int(along.block.max()) + 1
    counts = np.bincount(within, differing, blocks_there)
    taus = np.bincount(within, agree, blocks_there) / np.maximum(counts, 1)
    blocks = int((counts > 0).sum())
    weights = np.divide(1.0, counts * blocks, out=np.zeros(blocks_there), where=counts > 0)
    tau, weight = taus[within], weights[within]
    sums, squares = agree - tau * differing, untied - 2 * tau * agree + tau**2 * differing
    return _AxisTau(
        float(taus.sum() / max(blocks, 1)),
        blocks,
        CellSums(along.network, along.partner, sums * weight, squares * weight**2),
        (np.bincount(along.network, differing, len(x)) * weights[along.block]).astype(float),
        float(untied.sum()) / max(int(along.pairs.sum()), 1),
    )


def _mean_over_axes(parts: Sequence[_AxisTau]) -> _AxisTau:
    """Psi, and what belongs to it. Two cells differ in one axis at most, so no two axes have an entry in common."""
    count, kernels = len(parts), [part.kernel for part in parts]
    return _AxisTau(
        sum(part.value for part in parts) / count,
        sum(part.blocks for part in parts),
        CellSums(
            np.concatenate([kernel.network for kernel in kernels]),
            np.concatenate([kernel.partner for kernel in kernels]),
            np.concatenate([kernel.sums for kernel in kernels]) / count,
            np.concatenate([kernel.squares for kernel in kernels]) / count**2,
        ),
        np.sum([part.share for part in parts], axis=0) / count,
        sum(part.untied for part in parts) / count,
    )


def _with_interval(psi: _AxisTau, cells: Integers, averaged: int) -> Tau:
    """The Tau of a psi, with its interval or the reason why it has none."""
    used = np.bincount(cells, psi.share) > 0
    why = explain_no_interval(cells[used[cells]], None, MIN_MARGINAL_CELL)
    if why:
        return Tau(psi.value, None, why, len(cells), averaged)
    single, excess = jackknife_cell_sums(psi.kernel, cells).combine(np.ones(1))
    known = assess_uncertainty(single, excess, cells, np.bincount(cells, psi.share).astype(float), untied=psi.untied)
    return Tau(psi.value, correlation_interval(psi.value, known), None, len(cells), averaged)
