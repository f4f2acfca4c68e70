"""Kendall's tau of the networks of each cell, for all cells of one size at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpbench.analysis.statistics.axis_pairs import stack_pairs
from sharpbench.analysis.statistics.jackknife import Floats, Integers


def cell_taus(x: Floats, y: Floats, cells: Integers) -> tuple[Floats, NDArray[np.bool_]]:
    """[K], [K] Kendall's tau-b within each cell, and whether it is defined: neither side is constant there."""
    agree, untied_x, untied_y, _ = sum_pairs(x, y, cells)
    untied = untied_x * untied_y
    taus = np.divide(agree, np.sqrt(untied), out=np.zeros(len(untied)), where=untied > 0)
    return taus, untied > 0


def pair_signs(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.int8]:
    """The signs of the differences of two arrays; right also where a difference overflows."""
    signs: NDArray[np.int8] = np.greater(one, other).view(np.int8) - np.less(one, other).view(np.int8)
    return signs


def sum_pairs(x: Floats, y: Floats, cells: Integers) -> Floats:
    """[4, K] Over the ordered pairs of each cell: the sum of sign(x_i - x_j) sign(y_i - y_j), and the numbers of those
    that are untied in x, in y, and in both."""
    sums = np.zeros((4, int(cells.max(initial=-1)) + 1))
    for rows, members in stack_pairs(cells):
        sign_x, sign_y = (pair_signs(each[rows][..., None], each[members][:, None]) for each in (x, y))
        agree = sign_x * sign_y
        counts = [agree.sum(axis=(1, 2), dtype=np.int64)]
        counts += [np.count_nonzero(each, axis=(1, 2)) for each in (sign_x, sign_y, agree)]
        sums[:, cells[members[:, 0]]] += counts
    return sums


def stacked_kernel(x: Floats, y: Floats) -> Floats:
    """[Q, s, s] The entries of `marginal_kernel` for each of Q cells of one size; x, y [Q, s]."""
    sign_x, sign_y = (pair_signs(each[:, :, None], each[:, None]).astype(float) for each in (x, y))
    agree = sign_x * sign_y
    untied_x, untied_y = (np.abs(sign).sum(axis=(1, 2), keepdims=True) for sign in (sign_x, sign_y))
    scale = np.sqrt(untied_x * untied_y)
    defined = scale > 0
    scale, untied_x, untied_y = (np.where(defined, each, 1.0) for each in (scale, untied_x, untied_y))
    tau = agree.sum(axis=(1, 2), keepdims=True) / scale
    kernel = agree / scale - tau / 2 * (np.abs(sign_x) / untied_x + np.abs(sign_y) / untied_y)
    return np.where(defined, kernel, 0.0)
