"""Sign errors on environments worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from sharpbench.analysis.statistics import environment_sign_error, pair_weights


def slow(x: Any, y: Any, axes: dict[str, Any], examples: int) -> dict[Any, float]:
    """The error of each environment that counts, pair by pair."""
    configurations = [tuple(values) for values in zip(*axes.values(), strict=True)]
    found = {}
    for one, other in product(sorted(set(configurations)), repeat=2):
        if one < other and sum(a != b for a, b in zip(one, other, strict=True)) == 1:
            weights, errors = [], []
            for i, j in product(range(len(x)), repeat=2):
                if (configurations[i], configurations[j]) == (one, other):
                    certain = max(0.0, 1 - 2 * np.exp(-examples * (y[i] - y[j]) ** 2 / 2)) ** 2
                    weights.append(max(certain - 0.5, 0.0))
                    errors.append((1 - np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])) / 2)
            w = np.array(weights)
            if w.sum() and w.sum() ** 2 / (w**2).sum() >= 12:
                found[one, other] = float((w * errors).sum() / w.sum())
    return found


def test_weights_are_hoeffdings() -> None:
    assert list(pair_weights([0.0, 0.019, -0.019], 10_000)) == [0, 0, 0]
    assert pair_weights(0.0197, 10_000) > 0
    assert pair_weights(0.1, 10_000) == pytest.approx(0.5)
    # n difference^2 / 2 = 2: (1 - 2 e^-2)^2 - 1/2
    assert pair_weights(0.02, 10_000) == pytest.approx((1 - 2 * np.exp(-2)) ** 2 - 0.5)


def test_environments_worked_out_by_hand() -> None:
    # Four networks at each of u = 0, 1, 2; gaps 0, 1, 2 apart by 1, so that all 16 pairs of an environment weigh 1/2.
    # The measure orders 0 | 1 rightly, ties all of 0 | 2, and against u = 1 the values of u = 2 are lower: reversed.
    y = np.repeat([0.0, 1.0, 2.0], 4)
    x = np.repeat([5.0, 6.0, 5.0], 4)
    found = environment_sign_error(x, y, {"u": list(np.repeat([0, 1, 2], 4))}, examples=10_000)
    assert (found.environments, found.left_out) == (3, 0)
    assert (found.worst, found.mean, found.at) == (1.0, pytest.approx((0 + 0.5 + 1) / 3), "u")
    assert found.high == pytest.approx(np.percentile([0, 0.5, 1], 90))
    assert found.worst_interval is not None
    assert (found.worst_interval.high, found.reason) == (pytest.approx(1.0), None)
    # A quarter of the pairs of 0 | 1 is wrong when one network of u = 0 lies above all of u = 1.
    x = np.array([9.0, 5, 5, 5, 6, 6, 6, 6])
    found = environment_sign_error(x, y[:8], {"u": [0] * 4 + [1] * 4}, examples=10_000)
    assert (found.worst, found.mean, found.environments) == (0.25, 0.25, 1)


def test_twelve_equal_pairs_are_twelve_whatever_their_weight() -> None:
    for step in range(200):
        gap = 0.05 + 0.001 * step
        found = environment_sign_error(np.arange(7.0), [0.0] * 3 + [gap] * 4, {"a": [0] * 3 + [1] * 4}, examples=2000)
        assert (found.worst is not None) == (float(pair_weights(gap, 2000)) > 0)
        eleven = environment_sign_error(np.arange(12.0), [0.0] + [gap] * 11, {"a": [0] + [1] * 11}, examples=2000)
        assert eleven.worst is None


def test_configurations_that_differ_in_two_hyperparameters_are_no_environment() -> None:
    y = np.repeat([0.0, 1.0, 2.0, 3.0], 4)
    axes = {"u": list(np.repeat([0, 0, 1, 1], 4)), "v": list(np.repeat([0, 1, 0, 1], 4))}
    x = np.repeat([0.0, 1.0, 2.0, -1.0], 4)  # the last is below all: wrong along u from (0, 1), along v from (1, 0)
    found = environment_sign_error(x, y, axes, examples=10_000)
    assert (found.environments, found.worst, found.mean) == (4, 1.0, 0.5)
    assert found.at in axes


@pytest.mark.parametrize("kind", ["moderate", "ties", "strong"])
def test_errors_are_what_going_through_the_pairs_gives(kind: str, grid: Callable[..., Any]) -> None:
    x, y, axes = grid(kind, np.random.default_rng(0), shape=(3, 2), networks=5)
    kept = np.random.default_rng(1).permutation(30)[:27]
    x, y, axes = x[kept], 0.1 * y[kept], {name: [values[each] for each in kept] for name, values in axes.items()}
    expected = list(slow(x, y, axes, 900).values())
    found = environment_sign_error(x, y, axes, examples=900)
    assert (found.environments, found.environments + found.left_out) == (len(expected), 9)
    assert 0 < len(expected) < 9 or kind != "moderate"
    assert found.worst == pytest.approx(max(expected))
    assert found.mean == pytest.approx(np.mean(expected))


def test_what_has_no_value_says_why() -> None:
    y, axes = np.repeat([0.0, 1.0], 3), {"u": [0, 0, 0, 1, 1, 1]}
    nine = environment_sign_error(np.arange(6), y, axes, examples=100)
    assert (nine.worst, nine.left_out) == (None, 1)
    assert nine.reason == "the one environment has not 12 effective pairs whose gaps 100 test examples tell apart"
    assert environment_sign_error(np.arange(6), y, {}, examples=100).reason == "no hyperparameter varies"
    assert (
        environment_sign_error(np.ones(6), y, axes, examples=100).reason == "the measure is the same for all networks"
    )
    both = {"u": axes["u"], "v": axes["u"]}
    found = environment_sign_error(np.arange(6), y, both, examples=100)
    assert found.reason == "no two configurations differ in only one hyperparameter"
    few = environment_sign_error(
        np.arange(10), np.repeat([0.0, 1.0], [2, 8]), {"u": [0] * 2 + [1] * 8}, examples=10_000
    )
    assert (few.worst, few.worst_interval) == (0.0, None)
    assert few.reason == "the smallest cell holds 2 networks, an interval needs 3"


@pytest.mark.parametrize("kind", ["moderate", "strong"])
def test_intervals_cover(kind: str, grid: Callable[..., Any]) -> None:
    rng, found = np.random.default_rng(2), []
    for _ in range(100):
        x, y, axes = grid(kind, rng, shape=(4,), networks=5)
        found.append(environment_sign_error(x, y, axes, examples=10_000))
    for name in ("worst", "mean"):
        expected = float(np.mean([getattr(each, name) for each in found]))
        assert np.mean([expected in getattr(each, f"{name}_interval") for each in found]) >= 0.93 - 2 * 0.0255
