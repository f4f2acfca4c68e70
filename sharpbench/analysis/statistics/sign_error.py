"""Sign errors: how often a measure orders two networks wrongly when one hyperparameter changes.

Dziugaite et al. 2020 (In Search of Robust Measures of Generalization): an environment is a pair of configurations that
differ in exactly one hyperparameter, with all pairs of their networks. An average over environments hides those in
which a measure fails; the largest error shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

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
from sharpbench.analysis.statistics.interval import Interval, correlation_interval
from sharpbench.analysis.statistics.jackknife import CellSums, Floats, Integers, jackknife_cell_sums
from sharpbench.analysis.statistics.rank_correlation import MIN_MARGINAL_CELL
from sharpbench.analysis.statistics.uncertainty import ROUNDING, assess_uncertainty

MIN_EFFECTIVE_PAIRS = 12.0
"""Effective pairs that an environment needs at least."""


@dataclass(frozen=True, slots=True)
class SignError:
    """Errors in [0, 1] over environments: 0 is always right, 1/2 is no better than chance, 1 is always reversed.

    Args:
        high: The 90th percentile.
        reason: Why a value, or else an interval, is missing.
        environments: The number of environments that count.
        left_out: The number of environments without enough effective pairs.
        at: The axis of the worst environment.
    """

    worst: float | None
    mean: float | None
    high: float | None
    worst_interval: Interval | None
    mean_interval: Interval | None
    reason: str | None
    networks: int
    environments: int = 0
    left_out: int = 0
    at: str | None = None


def pair_weights(difference: ArrayLike, examples: int) -> Floats:
    """The weights of pairs whose gaps have this difference, for test accuracies on this number of examples.

    A weight is the excess over 1/2 of max(0, 1 - 2 exp(-examples difference^2 / 2))^2, Hoeffding's bound on the chance
    that both networks are ordered as their test accuracies. It is 0 below a difference of 0.0196 for 10,000 examples,
    and below 0.1033 for 360.
    """
    certain = np.maximum(0.0, 1 - 2 * np.exp(-examples * np.square(np.asarray(difference, dtype=float)) / 2)) ** 2
    weights: Floats = np.maximum(certain - 0.5, 0.0)
    return weights


def environment_sign_error(x: ArrayLike, y: ArrayLike, axes: Axes, *, examples: int) -> SignError:
    """The weighted mean of (1 - sign(x_i - x_j) sign(y_i - y_j)) / 2 in each environment; a tie in x counts 1/2.

    The weights w are those of `pair_weights`, and an environment counts if (sum w)^2 / sum w^2 >= 12. Intervals are for
    networks trained again at the same configurations. The interval of the worst error is that of its environment.
    """
    columns = varied_axes(axes, len(np.asarray(x)))
    first, second, cells = check_arrays(x, y, combine_codes(list(columns.values()), len(np.asarray(x))))
    if len(first) < 2 or is_constant(first) or is_constant(second):
        return _no_sign_error(explain_undefined(first, second), len(first))
    found = _Environments(first, second, columns, cells, examples)
    if not len(found.errors):
        return _no_sign_error(_explain_none(columns, found.left_out, examples), len(first), found.left_out)
    worst, every = int(np.argmax(found.errors)), np.arange(len(found.errors))
    top, mean = float(found.errors[worst]), float(found.errors.mean())
    why = explain_no_interval(cells[np.isin(cells, found.ends)], None, MIN_MARGINAL_CELL)
    return SignError(
        top,
        mean,
        float(np.percentile(found.errors, 90)),
        None if why else found.interval(top, every[[worst]], cells),
        None if why else found.interval(mean, every, cells),
        why,
        len(first),
        len(found.errors),
        found.left_out,
        _differing_axis(columns, cells, found.ends[worst]),
    )


class _Environments:
    """The environments that count: errors [E]; ends [E, 2], their two cells; left_out, the number that do not count."""

    def __init__(self, x: Floats, y: Floats, columns: Mapping[str, Integers], cells: Integers, examples: int) -> None:
        distinct, rank = np.unique(x, return_inverse=True)
        tied = len(distinct) < len(x)

        def weigh_pairs(one: Integers, other: Integers) -> list[Floats]:
            difference = y[one] - y[other]
            weights = pair_weights(difference, examples)  # 0 for a tie in y
            wrong = (1 - np.sign(rank[one] - rank[other]) * np.sign(difference)) / 2
            found = [weights, weights * wrong, *([weights * (wrong == 0.5)] if tied else [])]
            return [*found, *(weights * each for each in found)]

        along = [sum_pairs_along(columns, name, cells, weigh_pairs) for name in columns]
        self._network = np.concatenate([np.zeros(0, dtype=np.intp), *(each.network for each in along)])
        self._partner = np.concatenate([np.zeros(0, dtype=np.intp), *(each.partner for each in along)])
        found = np.concatenate([np.zeros((4 + 2 * tied, 0)), *(each.sums for each in along)], axis=1)
        sums = np.zeros((2, 3, found.shape[1]))  # of weights and of their squares: all, times the error, of the ties
        sums[:, : 2 + tied] = found.reshape(2, 2 + tied, -1)
        own = cells[self._network]
        first = np.minimum(own, self._partner) * len(x) + np.maximum(own, self._partner)
        keys, pairs = np.unique(first, return_inverse=True)
        once = own < self._partner  # each pair of networks is in two entries
        total, wrong, squares = (
            np.bincount(pairs[once], each[once], len(keys)) for each in (sums[0, 0], sums[0, 1], sums[1, 0])
        )
        needed = MIN_EFFECTIVE_PAIRS * (1 - ROUNDING)  # equal weights count as many pairs as there are
        counts = total**2 >= needed * np.maximum(squares, np.finfo(float).tiny)
        self.left_out = int((~counts).sum())
        self.errors: Floats = (wrong[counts] / total[counts]).astype(float)
        self.ends = np.stack(np.divmod(keys[counts], len(x)), axis=1)
        kept, number = counts[pairs], np.cumsum(counts) - 1
        self._network, self._partner, self._number = self._network[kept], self._partner[kept], number[pairs[kept]]
        weight, error = total[pairs[kept]], self.errors[self._number]
        share, share_wrong, share_half = sums[0][:, kept] / weight
        square, square_wrong, square_half = sums[1][:, kept] / weight**2
        self._share, self._untied = share, share - share_half
        self._deviations = error * share - share_wrong
        self._squares = (1 - 2 * error) * square_wrong - square_half / 4 + error**2 * square

    def interval(self, value: float, chosen: Integers, cells: Integers) -> Interval:
        """The interval of the mean error of the chosen environments, on the scale of 1 - 2 error, a correlation."""
        inside = np.isin(self._number, chosen)
        network, partner, share = self._network[inside], self._partner[inside], self._share[inside]
        sums = CellSums(
            network, partner, self._deviations[inside] / len(chosen), self._squares[inside] / len(chosen) ** 2
        )
        single, excess = jackknife_cell_sums(sums, cells).combine(np.ones(1))
        weights = np.bincount(cells[network], share, int(cells.max()) + 1).astype(float)
        untied = float(self._untied[inside].sum() / share.sum())
        around = correlation_interval(1 - 2 * value, assess_uncertainty(single, excess, cells, weights, untied=untied))
        return Interval((1 - around.high) / 2, (1 - around.low) / 2)


def _differing_axis(columns: Mapping[str, Integers], cells: Integers, ends: Integers) -> str:
    """The hyperparameter in which the configurations of two cells differ."""
    one, other = (int(np.flatnonzero(cells == cell)[0]) for cell in ends)
    return next(name for name, codes in columns.items() if codes[one] != codes[other])


def _no_sign_error(reason: str, networks: int, left_out: int = 0) -> SignError:
    return SignError(None, None, None, None, None, reason, networks, left_out=left_out)


def _explain_none(columns: Mapping[str, Integers], left_out: int, examples: int) -> str:
    if not columns:
        return "no hyperparameter varies"
    if not left_out:
        return "no two configurations differ in only one hyperparameter"
    several = f"none of {left_out} environments has" if left_out > 1 else "the one environment has not"
    return f"{several} {MIN_EFFECTIVE_PAIRS:g} effective pairs whose gaps {examples} test examples tell apart"
