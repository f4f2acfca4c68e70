"""The mean Psi against going through the pairs, against Psi by itself, and how often its interval covers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sharpbench.analysis.statistics import granulated_tau
from sharpbench.analysis.statistics.mean_psi import OutcomePairs, average_populations, interval_of
from sharpbench.analysis.statistics.ranking import rank_estimates
from tests.analysis.statistics.test_granulated import slow


def slow_psi(x: Any, y: Any, axes: dict[str, Any]) -> float | None:
    """Psi pair by pair, in double precision."""
    psis = [psi for psi in slow(x, y, axes).values() if psi is not None]
    return float(np.mean(psis)) if psis else None


def pruned(found: Any, keep: int, rng: Any) -> Any:
    """`keep` networks of a population, so that blocks and cells are of unequal size."""
    x, y, axes = found
    kept = rng.permutation(len(x))[:keep]
    return x[kept], y[kept], {name: [values[each] for each in kept] for name, values in axes.items()}


@pytest.mark.parametrize("kind", ["moderate", "ties", "negative"])
def test_the_mean_over_outcomes_and_populations_is_what_going_through_the_pairs_gives(
    kind: str, grid: Callable[..., Any]
) -> None:
    rng = np.random.default_rng(0)
    expected, found = [], []
    for shape, networks, keep in (((3, 2, 2), 3, 30), ((4,), 5, 20)):
        x, y, axes = pruned(grid(kind, rng, shape=shape, networks=networks), keep, rng)
        other = np.round(rng.standard_normal(len(y)) + y, 1)
        expected.append(0.25 * (slow_psi(x, y, axes) or 0) + 0.75 * (slow_psi(x, other, axes) or 0))
        found.append(OutcomePairs([y, other], [0.25, 0.75], axes).estimate([x, -x], [0.0, 0.0]))
        assert found[-1].values == pytest.approx([expected[-1], -expected[-1]], abs=1e-14)
        each = OutcomePairs([y, other], [0.25, 0.75], axes).by_outcome(x)
        assert list(each) == pytest.approx([slow_psi(x, y, axes) or 0, slow_psi(x, other, axes) or 0], abs=1e-14)
    assert average_populations(found).values[0] == pytest.approx(np.mean(expected), abs=1e-14)


@pytest.mark.parametrize("kind", ["moderate", "ties", "strong", "confounded"])
def test_with_one_outcome_it_is_psi_with_the_interval_of_psi(kind: str, grid: Callable[..., Any]) -> None:
    x, y, axes = grid(kind, np.random.default_rng(3), shape=(3, 2), networks=4)
    psi = granulated_tau(x, y, axes).overall
    for outcomes, shares in (([y], [1.0]), ([y, np.exp(y)], [0.5, 0.5])):  # exp keeps the order: nothing new is known
        estimates = OutcomePairs(outcomes, shares, axes).estimate([x], [0.0])
        interval = interval_of(average_populations([estimates]), 0)
        assert estimates.values[0] == pytest.approx(psi.value, abs=1e-14)
        assert psi.interval is not None
        assert (interval.low, interval.high) == pytest.approx((psi.interval.low, psi.interval.high), abs=1e-10)


def test_a_copy_of_a_population_halves_the_variance_and_a_copy_of_an_outcome_changes_nothing(
    grid: Callable[..., Any],
) -> None:
    x, y, axes = grid("moderate", np.random.default_rng(5), shape=(4, 3), networks=5)
    one = OutcomePairs([y], [1.0], axes).estimate([x], [0.0])
    twice = OutcomePairs([y, y], [0.5, 0.5], axes).estimate([x], [0.0])
    two = average_populations([one, one])
    weight = np.ones(1)
    assert twice.uncertainty(weight).variance == pytest.approx(one.uncertainty(weight).variance, rel=1e-9)
    assert two.uncertainty(weight).variance == pytest.approx(one.uncertainty(weight).variance / 2, rel=1e-9)


def test_errors_of_values_that_networks_do_not_show_widen_the_interval(grid: Callable[..., Any]) -> None:
    x, y, axes = grid("moderate", np.random.default_rng(5), shape=(3, 2), networks=5)
    plain, noisy = (OutcomePairs([y], [1.0], axes).estimate([x], [noise]) for noise in (0.0, 0.04))
    narrow, wide = (interval_of(average_populations([each, each]), 0) for each in (plain, noisy))
    assert average_populations([noisy, noisy]).noise == pytest.approx([0.02])
    assert wide.low < narrow.low
    assert wide.high > narrow.high


def test_an_outcome_that_no_pair_differs_in_is_not_defined(grid: Callable[..., Any]) -> None:
    x, y, axes = grid("moderate", np.random.default_rng(5), shape=(3, 2), networks=3)
    pairs = OutcomePairs([y, np.zeros(len(y))], [0.5, 0.5], axes)
    assert pairs.defined == (True, False)
    estimates = pairs.estimate([x], [0.0])
    assert estimates.values[0] == pytest.approx((slow_psi(x, y, axes) or 0) / 2)
    assert np.isfinite(interval_of(estimates, 0).high)
    assert OutcomePairs([y], [1.0], {}).defined == (False,)


def draw(rng: Any, grid: Callable[..., Any]) -> Any:
    """Two populations with two outcomes each that have networks, and much of their noise, in common."""
    found = []
    for shape in ((3, 2), (5,)):
        x, y, axes = grid("moderate", rng, shape=shape, networks=5)
        other = y + 0.5 * rng.standard_normal(len(y))
        pairs = OutcomePairs([y, other], [0.5, 0.5], axes)
        rival = y + 1.5 * rng.standard_normal(len(y))
        found.append(pairs.estimate([x, rival], [0.0, 0.0]))
    return average_populations(found)


def test_intervals_cover_the_expected_mean(grid: Callable[..., Any]) -> None:
    rng = np.random.default_rng(11)
    drawn = [draw(rng, grid) for _ in range(80)]
    expected = np.mean([each.values for each in drawn], axis=0)  # varies by a tenth of one score
    covered = np.mean([[expected[one] in interval_of(each, one) for one in (0, 1)] for each in drawn])
    assert 0.90 <= covered < 1


def test_a_measure_that_is_clearly_worse_has_a_lower_rank_and_equal_ones_share_theirs(
    grid: Callable[..., Any],
) -> None:
    rng = np.random.default_rng(2)
    x, y, axes = grid("strong", rng, shape=(3, 3), networks=5)
    measures = [x, np.exp(x / x.max()), -x]
    estimates = OutcomePairs([y], [1.0], axes).estimate(measures, [0.0] * 3)
    assert rank_estimates(average_populations([estimates, estimates]), [0, 1, 2], 3).ranks == (1, 1, 3)
