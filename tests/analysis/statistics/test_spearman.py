"""Spearman's correlation is scipy's, and its interval rests on derivatives that can be checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from sharpbench.analysis.statistics import spearman_correlation
from sharpbench.analysis.statistics.spearman import MIN_SPEARMAN_NETWORKS, spearman_influence


def weighted(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    """Spearman's correlation of weighted ranks, network by network."""
    ranks = []
    for values in (x, y):
        rank = [sum(weights * ((values < value) + 0.5 * (values == value))) for value in values]
        ranks.append(np.array(rank) - 0.5)
    covariance = [[sum(weights * one * other) for one in ranks] for other in ranks]
    return float(covariance[0][1] / np.sqrt(covariance[0][0] * covariance[1][1]))


def test_it_is_scipys_with_ties_too() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        x, y = rng.integers(0, 5, size=(2, 60)).astype(float)
        found = spearman_correlation(x, y, np.repeat([0, 1, 2], 20))
        assert found.value == pytest.approx(spearmanr(x, y).statistic, abs=1e-13)
        assert weighted(x, y, np.full(60, 1 / 60)) == pytest.approx(found.value, abs=1e-12)
        assert found.interval is not None
        assert found.value in found.interval


def test_influence_is_the_derivative_by_the_weights() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 6, size=(2, 12)).astype(float)
    step, even = 1e-5, np.full(12, 1 / 12)
    for network, found in enumerate(spearman_influence(x, y)):
        towards = np.eye(12)[network] - even
        slope = (weighted(x, y, even + step * towards) - weighted(x, y, even - step * towards)) / (2 * step)
        assert found == pytest.approx(slope, abs=1e-7)


def test_what_has_none_says_why() -> None:
    assert spearman_correlation([1, 1, 1], [1, 2, 3], [0, 0, 0]).reason == "the measure is the same for all networks"
    assert spearman_correlation([], [], []).reason == "0 networks, tau needs 2"
    small = spearman_correlation([1, 2, 3, 4], [1, 2, 4, 3], [0, 0, 1, 1])
    assert (small.value, small.interval) == (pytest.approx(0.8), None)
    assert small.reason == "the smallest cell holds 2 networks, an interval needs 3"
    few = spearman_correlation(np.arange(49), np.arange(49), np.repeat(np.arange(7), 7))
    assert (few.value, few.interval) == (1, None)
    assert few.reason == f"49 networks, an interval needs {MIN_SPEARMAN_NETWORKS}"
    drawn = spearman_correlation(np.arange(20), np.arange(20), np.arange(20), np.arange(20))
    assert drawn.interval is not None  # where configurations are drawn, 20 of them are enough


@pytest.mark.parametrize("kind", ["moderate", "independent", "confounded"])
def test_intervals_cover(kind: str, population: Callable[..., Any]) -> None:
    rng = np.random.default_rng(5)
    found = [spearman_correlation(*population(kind, rng, configurations=10, networks=5)) for _ in range(100)]
    expected = float(np.mean([each.value for each in found]))
    assert all(each.interval for each in found)
    assert np.mean([expected in each.interval for each in found if each.interval]) >= 0.93 - 2 * 0.0255
