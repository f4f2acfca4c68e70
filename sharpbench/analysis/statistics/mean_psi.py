"""The mean Psi of several measures over outcomes and populations, with its interval and rank.

Psi of one outcome is that of `granulated_tau`. It is a sum over pairs of networks, so a weighted mean over outcomes of
the same networks is one sum also. The jackknife leaves a network out of all outcomes together, which counts what the
outcomes have in common. Populations are independent: together they are one design whose cells are all their cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from sharpbench.analysis.statistics.cell_taus import pair_signs
from sharpbench.analysis.statistics.inputs import Axes, combine_codes, varied_axes
from sharpbench.analysis.statistics.interval import Interval, correlation_interval
from sharpbench.analysis.statistics.jackknife import Floats, Integers, Jackknife, Kernel, jackknife_pairs
from sharpbench.analysis.statistics.rank_correlation import TauEstimates

MAX_PAIRS_AT_ONCE = 2**20
"""Pairs of networks that are searched at a time for those that differ in one hyperparameter."""


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    """What Psi with one outcome needs of the pairs.

    Args:
        signs: [E] The sign of the difference of the outcome.
        weights: [E] The weight of each pair in Psi; 0 where it is tied in the outcome.
    """

    signs: NDArray[np.int8]
    weights: Floats


class OutcomePairs:
    """The pairs of networks of a population that differ in one hyperparameter, by several outcomes.

    Args:
        outcomes: [O, n] The outcomes of the networks.
        shares: [O] The weight of each outcome; they sum to 1.
        axes: The hyperparameters.
    """

    def __init__(self, outcomes: Sequence[Floats], shares: Sequence[float], axes: Axes) -> None:
        networks = len(outcomes[0])
        columns = varied_axes(axes, networks)
        self.cells = combine_codes(list(columns.values()), networks)
        self._one, self._other, self._axis = _pairs_along(columns, networks)
        self._axes, self._networks = len(columns), networks
        self._block = _number_blocks(columns, self._one, self._axis)
        self._shares = shares
        self._outcomes = [self._weigh(values) for values in outcomes]

    def _weigh(self, values: Floats) -> _Outcome:
        signs = pair_signs(values[self._one], values[self._other])
        untied = np.abs(signs).astype(float)
        counts = np.bincount(self._block, untied)
        axis_of = np.zeros(len(counts), dtype=np.intp)
        axis_of[self._block] = self._axis
        blocks = np.bincount(axis_of, counts > 0, self._axes)
        weights = np.zeros(len(counts))
        used = counts > 0
        weights[used] = 1 / (counts[used] * blocks[axis_of[used]] * max(int((blocks > 0).sum()), 1))
        return _Outcome(signs, weights[self._block] * untied)

    @property
    def outcomes(self) -> int:
        """The number of outcomes, O."""
        return len(self._outcomes)

    @property
    def defined(self) -> tuple[bool, ...]:
        """Whether Psi with each outcome is defined: some pair differs in it."""
        return tuple(bool(each.weights.any()) for each in self._outcomes)

    @cached_property
    def _signed(self) -> Floats:
        """[E] The weights of the signs of a measure in the mean Psi."""
        parts = zip(self._shares, self._outcomes, strict=True)
        total: Floats = np.sum([share * each.weights * each.signs for share, each in parts], axis=0)
        return total

    @cached_property
    def _shared(self) -> Floats:
        """[E] The weights of the pairs in the mean Psi."""
        parts = zip(self._shares, self._outcomes, strict=True)
        total: Floats = np.sum([share * each.weights for share, each in parts], axis=0)
        return total

    def value(self, x: Floats) -> float:
        """The mean over outcomes of the Psi of the measure x [n]."""
        return float(self._signs(x) @ self._signed)

    def by_outcome(self, x: Floats) -> Floats:
        """[O] The Psi of the measure x [n] with each outcome."""
        found: Floats = self._signed_by_outcome @ self._signs(x)
        return found

    @cached_property
    def _signed_by_outcome(self) -> Floats:
        """[O, E] The weights of the signs of a measure in the Psi with each outcome."""
        return np.array([each.weights * each.signs for each in self._outcomes], dtype=np.float64)

    def _signs(self, x: Floats) -> NDArray[np.int8]:
        return pair_signs(x[self._one], x[self._other])

    def _kernel(self, x: Floats) -> Kernel:
        """The entries of the pairs: those of a block less their mean, as only they vary around the tau of the block."""
        signs = self._signs(x)
        entries = signs * self._signed
        for share, each in zip(self._shares, self._outcomes, strict=True):
            totals = np.bincount(self._block, each.weights)
            agree = np.bincount(self._block, signs * each.signs * each.weights)
            means = np.divide(agree, totals, out=np.zeros_like(agree), where=totals > 0)
            entries -= share * means[self._block] * each.weights
        size = self._networks
        matrix = csr_matrix((entries, (self._one, self._other)), shape=(size, size))
        return lambda rows: np.asarray(matrix[rows].toarray(), dtype=np.float64)

    def _untied(self, x: Floats) -> float:
        """The share of the pairs that are tied neither in x nor in the outcome: a mean over axes and outcomes."""
        signs, many = np.abs(self._signs(x)), np.bincount(self._axis, minlength=self._axes)
        found = 0.0
        for share, each in zip(self._shares, self._outcomes, strict=True):
            used = np.bincount(self._axis, each.weights > 0, self._axes) > 0
            untied = np.bincount(self._axis, signs * np.abs(each.signs), self._axes)
            found += share * float((untied[used] / many[used]).sum()) / max(int(used.sum()), 1)
        return found

    def estimate(self, measures: Sequence[Floats], noise: Sequence[float]) -> TauEstimates:
        """The mean Psi of each measure. Costs measures times networks^2 operations.

        noise: [M] A further variance of each, from the errors of the values.
        """
        found = jackknife_pairs([self._kernel(x) for x in measures], self.cells)
        weights = np.bincount(self.cells[self._one], self._shared, len(np.bincount(self.cells)))
        return TauEstimates(
            np.array([self.value(x) for x in measures]),
            found,
            np.tile(weights, (len(measures), 1)),
            np.array([self._untied(x) for x in measures]),
            np.ones(found.single.shape, dtype=np.bool_),
            np.array(noise),
        )


def _pairs_along(columns: Mapping[str, Integers], networks: int) -> tuple[Integers, Integers, Integers]:
    """[E], [E], [E] Ordered pairs of networks that differ in one hyperparameter, and the index of that."""
    codes = np.array(list(columns.values()), dtype=np.intp).reshape(len(columns), networks)
    step = max(1, MAX_PAIRS_AT_ONCE // max(networks, 1))
    found = [np.zeros((3, 0), dtype=np.intp)]
    for start in range(0, networks, step):
        differ = codes[:, start : start + step, None] != codes[:, None]  # [A, r, n]
        rows, others = np.nonzero(differ.sum(axis=0) == 1)
        found.append(
            np.array([rows + start, others, differ[:, rows, others].argmax(axis=0)]) if len(rows) else found[0]
        )
    one, other, axis = np.concatenate(found, axis=1)
    return one, other, axis


def _number_blocks(columns: Mapping[str, Integers], one: Integers, axis: Integers) -> Integers:
    """[E] The block of each pair: the axis along which it lies, and what both networks have in all others."""
    networks = len(next(iter(columns.values()), ()))
    of_axis = [
        combine_codes([codes for other, codes in columns.items() if other != name], networks) for name in columns
    ]
    if not len(one):
        return np.zeros(0, dtype=np.intp)
    found: Integers = np.unique(axis * networks + np.array(of_axis)[axis, one], return_inverse=True)[1].astype(np.intp)
    return found


def average_populations(found: Sequence[TauEstimates]) -> TauEstimates:
    """The mean over independent populations of the estimates of the same M measures, each population with equal weight.

    All cells of all populations are the cells of one design, so variances and degrees of freedom add up as within one.
    """
    count, measures = len(found), len(found[0].values)
    offsets = np.cumsum([0, *(each.weights.shape[1] for each in found[:-1])])
    jackknife = Jackknife(
        np.concatenate([each.jackknife.single for each in found], axis=1) / count,
        np.concatenate([each.jackknife.excess for each in found]) / count**2,
        np.concatenate([each.jackknife.cells + offset for each, offset in zip(found, offsets, strict=True)]),
    )
    noise = [np.zeros(measures) if each.noise is None else each.noise for each in found]
    return TauEstimates(
        np.mean([each.values for each in found], axis=0),
        jackknife,
        np.concatenate([each.weights for each in found], axis=1) / count,
        np.mean([each.untied for each in found], axis=0),
        np.ones(jackknife.single.shape, dtype=np.bool_),
        np.sum(noise, axis=0) / count**2,
    )


def interval_of(estimates: TauEstimates, number: int) -> Interval:
    """The 95 % interval of the measure with that number."""
    coefficients = np.zeros(len(estimates.values))
    coefficients[number] = 1.0
    return correlation_interval(float(estimates.values[number]), estimates.uncertainty(coefficients))
