"""Cells that were drawn at random with their networks: variances by leaving cells out, and coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sharpbench.analysis.statistics import MIN_UNITS, marginal_tau, paired_difference, shared_ranks, within_tau
from sharpbench.analysis.statistics.cell_taus import cell_taus
from sharpbench.analysis.statistics.interval import correlation_interval
from sharpbench.analysis.statistics.jackknife import jackknife_pairs
from sharpbench.analysis.statistics.rank_correlation import within_estimates
from sharpbench.analysis.statistics.uncertainty import assess_uncertainty

Floats = NDArray[np.float64]
KINDS = ("moderate", "independent", "confounded", "strong", "negative", "heavy tails", "slopes", "ties")


def draw(kind: str, rng: np.random.Generator, *, cells: int, networks: int) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """A measure, the gap and the cells of one population, whose configurations are drawn too."""
    codes = np.repeat(np.arange(cells), networks)
    level = 1.5 * rng.standard_normal(cells)[codes]
    noise, other = rng.standard_normal((2, len(codes)))
    gap = level + noise
    if kind == "independent":
        return rng.standard_normal(cells)[codes] + other, gap, codes
    if kind == "confounded":
        return 3 * level + other, 3 * level + noise, codes
    if kind == "strong":
        return np.exp(gap + 0.3 * other), gap, codes
    if kind == "negative":
        return -gap + 0.5 * other, gap, codes
    if kind == "heavy tails":
        gap = level + rng.standard_t(2, len(codes))
        return level + 0.5 * gap + rng.standard_t(2, len(codes)), gap, codes
    if kind == "slopes":  # in half of the cells the order is reversed
        return level + 2 * rng.choice([-1.0, 1.0], cells)[codes] * noise + other, gap, codes
    if kind == "ties":
        return gap + other, np.round(gap), codes
    return gap + other, gap, codes


def test_a_unit_of_one_network_is_a_network() -> None:
    rng = np.random.default_rng(0)
    half = rng.standard_normal((8, 8))
    kernel = half + half.T
    np.fill_diagonal(kernel, 0)
    whole = np.zeros(8, dtype=np.intp)
    found = jackknife_pairs([kernel.__getitem__], whole, np.arange(8))
    expected = jackknife_pairs([kernel.__getitem__], whole)
    np.testing.assert_allclose(found.single, expected.single, atol=1e-13)
    np.testing.assert_allclose(found.excess, expected.excess, atol=1e-13)


def test_single_is_the_jackknife_over_cells_with_pairs_kept_at_their_weight() -> None:
    rng = np.random.default_rng(1)
    cells = np.repeat(np.arange(6), [2, 3, 1, 4, 2, 3])
    half = rng.standard_normal((15, 15))
    kernel = half + half.T
    np.fill_diagonal(kernel, 0)
    without = []
    for left_out in range(6):
        kept = cells != left_out
        part = kernel[np.ix_(kept, kept)]
        inside = sum(kernel[np.ix_(cells == cell, cells == cell)].sum() for cell in range(6) if cell != left_out)
        without.append((part.sum() - inside) * (6 * 5) / (5 * 4) + inside * 6 / 5)
    expected = 5 / 6 * float(((np.array(without) - np.mean(without)) ** 2).sum())
    single = jackknife_pairs([kernel.__getitem__], cells, cells).single[0]
    assert float(single @ single) == pytest.approx(expected, rel=1e-12)


def test_the_spread_within_is_the_textbook_variance_of_a_mean_and_leaves_undefined_cells_out() -> None:
    x, y, cells = draw("slopes", np.random.default_rng(6), cells=5, networks=4)
    x[cells == 1] = 0.3
    taus, defined = cell_taus(x, y, cells)
    assert list(defined) == [True, False, True, True, True]
    found = within_estimates([x], y, cells, cells)
    assert found.uncertainty(np.ones(1)).variance == pytest.approx(np.var(taus[defined], ddof=1) / 4, rel=1e-12)
    assert (found.jackknife.single.shape, found.jackknife.single[0, 1]) == ((1, 5), 0)


def test_values_are_those_of_a_designed_grid_and_intervals_are_wider() -> None:
    x, y, cells = draw("slopes", np.random.default_rng(2), cells=30, networks=5)
    for tau in (marginal_tau, within_tau):
        designed, random = tau(x, y, cells), tau(x, y, cells, cells)
        assert (designed.value, designed.cells) == (random.value, random.cells)
        assert designed.interval is not None
        assert random.interval is not None
        assert random.interval.high - random.interval.low > designed.interval.high - designed.interval.low
    assert np.mean(cell_taus(x, y, cells)[0]) == pytest.approx(within_tau(x, y, cells).value)


def test_few_cells_have_no_interval_and_small_ones_do() -> None:
    x, y, cells = draw("moderate", np.random.default_rng(3), cells=MIN_UNITS, networks=2)
    for tau in (marginal_tau, within_tau):
        assert tau(x, y, cells, cells).interval is not None
        few = tau(x[2:], y[2:], cells[2:], cells[2:])
        assert few.interval is None
        assert few.reason == f"{MIN_UNITS - 1} units drawn, an interval needs {MIN_UNITS}"


def test_ranks_of_random_cells() -> None:
    rng = np.random.default_rng(4)
    x, y, cells = draw("strong", rng, cells=40, networks=4)
    useless = rng.standard_normal(len(y))
    for within in (False, True):
        assert shared_ranks([useless, x, x], y, cells, cells, within=within) == (3, 1, 1)
        found = paired_difference(x, useless, y, cells, cells, within=within)
        assert found is not None
        tau = within_tau if within else marginal_tau
        expected = (tau(x, y, cells).value or 0) - (tau(useless, y, cells).value or 0)
        assert found[0] == pytest.approx(expected)
        assert found[1].low > 0


def test_measures_that_are_constant_in_different_cells_are_compared_cell_by_cell() -> None:
    x, y, cells = draw("slopes", np.random.default_rng(7), cells=30, networks=4)
    one, other = x.copy(), x.copy()
    one[cells == 3], other[cells == 20] = 0.0, 0.0
    found = paired_difference(one, other, y, cells, cells, within=True)
    assert found is not None
    # 28 cells are common to both and cancel but for their weights, which are equal: two cells are left
    taus, _ = cell_taus(x, y, cells)
    deviations = np.zeros(30)
    for values, absent, sign in ((taus, 3, 1), (taus, 20, -1)):
        kept = np.arange(30) != absent
        deviations[kept] += sign * (values[kept] - values[kept].mean()) / np.sqrt(29 * 28)
    whole, none = np.zeros(30, dtype=np.intp), np.zeros(1)
    known = assess_uncertainty(deviations / 2, none, whole, np.ones(1), untied=1.0)
    assert known.variance == pytest.approx(float(deviations @ deviations) / 4, rel=1e-12)
    expected = correlation_interval(found[0] / 2, known, skewness=0.0)
    assert found[0] == pytest.approx((taus[20] - taus[3]) / 29)
    assert (found[1].low, found[1].high) == pytest.approx((2 * expected.low, 2 * expected.high))
    alone = within_tau(x, y, cells, cells).interval  # two units decide the difference, and yet it is narrower
    assert alone is not None
    assert found[1].high - found[1].low < alone.high - alone.low
    assert paired_difference(one, x, y, cells, cells, within=True) is not None


def covers(tau: Any, kind: str, *, trials: int, cells: int, networks: int) -> float:
    """The share of populations whose interval holds the expected tau."""
    rng = np.random.default_rng(5)
    drawn = [draw(kind, rng, cells=cells, networks=networks) for _ in range(trials)]
    found = [tau(x, y, codes, codes) for x, y, codes in drawn]
    expected = float(np.mean([each.value for each in found]))
    intervals = [each.interval for each in found if each.interval is not None]
    assert len(intervals) > 0.95 * trials
    return float(np.mean([expected in interval for interval in intervals]))


@pytest.mark.parametrize("tau", [marginal_tau, within_tau])
@pytest.mark.parametrize("kind", ["moderate", "slopes"])
def test_intervals_cover(kind: str, tau: Any) -> None:
    """80 trials: 95 % within three standard deviations of a binomial."""
    assert covers(tau, kind, trials=80, cells=20, networks=3) > 0.95 - 3 * (0.95 * 0.05 / 80) ** 0.5


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("tau", [marginal_tau, within_tau])
@pytest.mark.parametrize("shape", [(20, 5), (60, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover_93_percent_of_1000_trials(kind: str, shape: tuple[int, int], tau: Any) -> None:
    # ties leave tau undefined in some cells; four more, so that 20 are left nearly always
    cells = shape[0] + 4 * (kind == "ties")
    assert covers(tau, kind, trials=1000, cells=cells, networks=shape[1]) >= 0.93
