"""The variance of a sum over pairs of networks when the networks of each cell are drawn again.

A rank correlation is, to first order, a sum over ordered pairs h[i, j]. When cells are fixed and the networks in
them are drawn independently, its variance has a part from single networks and one from pairs (Hoeffding's
decomposition). The stratified jackknife, which keeps the weights of the cells, counts the first part once and the
second too often: twice between cells, 2(m-1)/(m-2) times within a cell of m (Efron and Stein 1981, The jackknife
estimate of variance). The residuals of a two-way layout estimate this excess without bias: |single|^2 is the
jackknife, and |single|^2 - |excess|^2 is unbiased. Both vectors are linear in h, so the difference of two measures is
a subtraction.

No network is ever paired with itself. A bootstrap draws networks twice and would have to correct for that.

Where configurations are drawn with their networks, or several configurations share an initialisation, `units` says
which networks are drawn together. The jackknife then leaves out units. Pairs inside a unit belong to that unit and
never count as pairs of two draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

# Subtracting the whole excess is unbiased, but the estimate scatters, and 95 % intervals then cover 89 to 99 %. With
# half of it they cover 93.5 to 99.4 % (docs/protocol.md).
EXCESS_CORRECTION = 0.5
"""The share of the excess that is subtracted."""
MIN_SHARE = 0.25
"""Of the jackknife; in expectation the true share is larger for cells of 3 or more."""


@dataclass(frozen=True, slots=True, eq=False)
class JackknifeVariance:
    """The two vectors of a statistic from which variances follow; see the module's text."""

    single: Floats  # [n]
    excess: Floats  # [n * n]

    def variance(self) -> float:
        """The variance of the statistic, somewhat too large in expectation so that intervals cover enough."""
        jackknife, excess = float(self.single @ self.single), float(self.excess @ self.excess)
        return max(jackknife - EXCESS_CORRECTION * excess, MIN_SHARE * jackknife)

    def __sub__(self, other: JackknifeVariance) -> JackknifeVariance:
        """The variance of the difference of two statistics of the same networks."""
        return JackknifeVariance(self.single - other.single, self.excess - other.excess)


def jackknife_variance(kernel: Floats, cells: Integers, units: Integers | None = None) -> JackknifeVariance:
    """The variance of kernel.sum() over ordered pairs. Costs n^2 K operations, or n^2 U with units.

    Args:
        kernel: [n, n], symmetric with zero diagonal.
        cells: [n], 0 ... K-1, the cell of each network; networks are drawn independently within cells.
        units: [n], 0 ... U-1. Where given, units are drawn independently, whatever the cells.
    """
    if units is None:
        return _jackknife(kernel, cells)
    member = np.eye(units.max() + 1)[units]  # [n, U]
    together = member.T @ kernel @ member
    own = np.diag(together).copy()
    np.fill_diagonal(together, 0.0)
    whole = np.zeros(len(own), dtype=np.intp)
    between = _jackknife(together, whole)
    return JackknifeVariance(between.single + linear_variance(own, whole).single, between.excess)


def linear_variance(share: Floats, cells: Integers, units: Integers | None = None) -> JackknifeVariance:
    """The variance of share.sum(), one number per network; cells and units as in `jackknife_variance`."""
    if units is not None:
        share, cells = np.bincount(units, share).astype(float), np.zeros(units.max() + 1, dtype=np.intp)
    member = np.eye(cells.max() + 1)[cells]
    size = member.sum(axis=0)[cells]
    return JackknifeVariance(np.sqrt(_ratio(size, size - 1)) * (share - _cell_means(share, member)), np.zeros(1))


def _jackknife(kernel: Floats, cells: Integers) -> JackknifeVariance:
    member = np.eye(cells.max() + 1)[cells]  # [n, K]
    size = member.sum(axis=0)[cells]  # [n]
    rows = kernel @ member  # [n, K], sums of each network's pairs by cell
    own = rows[np.arange(len(cells)), cells]
    return JackknifeVariance(_single(rows, own, size, member), _excess(kernel, own, size, member).ravel())


def _cell_means(values: Floats, member: Floats) -> Floats:
    """Each network's mean over its cell, along the first axis."""
    means: Floats = member @ ((member.T @ values).T / member.sum(axis=0)).T
    return means


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """top / bottom; 0 where the bottom is not positive, as in a cell that is too small."""
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def _single(rows: Floats, own: Floats, size: Floats, member: Floats) -> Floats:
    """[n] Centred changes when a network is left out and its cell's pairs keep their weight."""
    others = rows.sum(axis=1) - own
    change = 2 * others * _ratio(size, size - 1) + 2 * own * _ratio(size, size - 2)
    centred: Floats = np.sqrt(_ratio(size - 1, size)) * (change - _cell_means(change, member))
    return centred


def _excess(kernel: Floats, own: Floats, size: Floats, member: Floats) -> Floats:
    """[n, n] The part of pairs beyond their members, weighted by how often the jackknife overcounts it."""
    half = kernel - _cell_means(kernel, member)
    between = half - _cell_means(half.T, member).T
    weight_between = np.outer(_ratio(size, size - 1), _ratio(size, size - 1))
    sums = _cell_means(own, member) * size
    level = _ratio(sums, (size - 1) * (size - 2))
    adjusted = _ratio(own, size - 2)
    within = kernel - adjusted[:, None] - adjusted[None, :] + level[:, None]
    np.fill_diagonal(within, 0.0)
    weight_within = _ratio(size * (size - 1), (size - 2) * (size - 3))[:, None]
    same = (member @ member.T).astype(bool)
    squared = np.where(same, weight_within, weight_between)
    weighted: Floats = np.sqrt(2 * squared) * np.where(same, within, between)
    return weighted
