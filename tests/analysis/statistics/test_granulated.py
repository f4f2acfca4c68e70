"""Psi on tables worked out by hand, against going through the pairs, and how often its intervals cover."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from sharpbench.analysis.statistics import granulated_tau
from sharpbench.analysis.statistics.inputs import combine_codes, varied_axes

ALONE = "no two configurations differ in only one hyperparameter"


def slow(x: Any, y: Any, axes: dict[str, Any]) -> dict[str, float | None]:
    """psi of each axis, pair by pair."""
    found: dict[str, float | None] = {}
    for name in axes:
        blocks: dict[tuple[Any, ...], list[float]] = {}
        for i, j in combinations(range(len(x)), 2):
            others = [tuple(axes[other][each] for other in axes if other != name) for each in (i, j)]
            if others[0] == others[1] and axes[name][i] != axes[name][j] and y[i] != y[j]:
                sign = float(np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]))
                blocks.setdefault(others[0], []).append(sign)
        found[name] = float(np.mean([np.mean(signs) for signs in blocks.values()])) if blocks else None
    return found


def test_a_table_worked_out_by_hand() -> None:
    # a:  0  1  2      b = 0, y: 1 2 3, x: 1 3 2 -> pairs +, +, -  -> 1/3
    #                  b = 1, y: 4 6 5, x: 5 6 4 -> pairs +, -, +  -> 1/3      psi_a = 1/3
    # along b: y 1<4, 2<6, 3<5 and x 1<5, 3<6, 2<4 -> 1, 1, 1                  psi_b = 1
    axes = {"a": [0, 1, 2, 0, 1, 2], "b": ["u", "u", "u", "v", "v", "v"], "same": [7] * 6}
    found = granulated_tau([1, 3, 2, 5, 6, 4], [1, 2, 3, 4, 6, 5], axes)
    assert {name: tau.value for name, tau in found.axes.items()} == {"a": pytest.approx(1 / 3), "b": 1.0}
    assert found.overall.value == pytest.approx(2 / 3)
    assert (found.axes["a"].cells, found.axes["b"].cells, found.overall.cells) == (2, 3, 2)
    assert found.overall.reason == "the smallest cell holds 1 network, an interval needs 3"


def test_seeds_are_crossed_and_ties_of_the_measure_count_0_while_those_of_the_gap_are_left_out() -> None:
    # two seeds at each of a = 0, 1: four pairs (0, 1); y: 1, 2 | 2, 3, so that 2-2 is left out; x: 1, 5 | 5, 4
    # 1<2, 1<5: +   1<3, 1<4: +   2<3, 5>4: -   -> 1/3
    assert granulated_tau([1, 5, 5, 4], [1, 2, 2, 3], {"a": [0, 0, 1, 1]}).overall.value == pytest.approx(1 / 3)
    # with x: 1, 5 | 5, 5 the pairs are +, + and a tie -> 2/3
    assert granulated_tau([1, 5, 5, 5], [1, 2, 2, 3], {"a": [0, 0, 1, 1]}).overall.value == pytest.approx(2 / 3)


@pytest.mark.parametrize("kind", ["moderate", "ties"])
def test_psi_is_what_going_through_the_pairs_gives(kind: str, grid: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        x, y, axes = grid(kind, rng, shape=(3, 2, 2), networks=3)
        kept = rng.permutation(len(x))[:30]  # blocks of unequal size, some without a pair
        x, y, axes = x[kept], y[kept], {name: [values[each] for each in kept] for name, values in axes.items()}
        found, expected = granulated_tau(x, y, axes), slow(x, y, axes)
        assert {name: tau.value for name, tau in found.axes.items()} == pytest.approx(expected, abs=1e-14)
        assert found.overall.value == pytest.approx(np.mean([value or 0 for value in expected.values()]), abs=1e-14)


@pytest.mark.parametrize(
    ("x", "axes", "reason"),
    [
        ([1.0, 2, 3, 4], {}, "no hyperparameter varies"),
        ([1.0, 2, 3, 4], {"a": [1, 1, 1, 1]}, "no hyperparameter varies"),
        ([1.0, 2, 3, 4], {"a": [0, 0, 1, 1], "b": [2, 2, 3, 3]}, ALONE),
        ([5.0, 5, 5, 5], {"a": [0, 0, 1, 1]}, "the measure is the same for all networks"),
    ],
)  # fmt: skip
def test_what_has_no_value_says_why(x: list[float], axes: dict[str, list[int]], reason: str) -> None:
    found = granulated_tau(x, [1, 2, 3, 4], axes)
    assert (found.overall.value, found.overall.interval, found.overall.reason) == (None, None, reason)
    assert all(tau.value is None and tau.reason for tau in found.axes.values())


def test_an_axis_on_which_a_measure_is_blind_counts_0(grid: Callable[..., Any]) -> None:
    _, y, axes = grid("moderate", np.random.default_rng(1), shape=(3, 2), networks=4)
    found = granulated_tau(axes["a0"], y, axes)
    assert found.axes["a1"].value == 0
    assert found.overall.value == pytest.approx((found.axes["a0"].value or 0) / 2)


def test_axes_are_hashable_values_of_any_type() -> None:
    axes = {"a": [None, 1.5, "x", True, None], "b": [0, 0.0, -0.0, 0, 0]}
    assert {name: list(codes) for name, codes in varied_axes(axes, 5).items()} == {"a": [0, 1, 2, 3, 0]}
    assert list(combine_codes([], 2)) == [0, 0]
    with pytest.raises(ValueError, match="axis 'a' has 5 values for 4 networks; give one per network"):
        granulated_tau([1, 2, 3, 4], [1, 2, 3, 4], axes)


def covers(grid: Callable[..., Any], kind: str, *, trials: int, shape: tuple[int, ...], networks: int) -> float:
    """The share of populations whose interval of Psi holds the expected Psi."""
    rng = np.random.default_rng(7)
    found = [granulated_tau(*grid(kind, rng, shape=shape, networks=networks)).overall for _ in range(trials)]
    expected = float(np.mean([each.value for each in found]))
    return float(np.mean([expected in each.interval for each in found if each.interval]))


@pytest.mark.parametrize("kind", ["moderate", "strong", "confounded"])
def test_intervals_cover_as_often_as_they_say(kind: str, grid: Callable[..., Any]) -> None:
    # 93 % of 100 trials, less two standard errors of the share
    assert covers(grid, kind, trials=100, shape=(3, 2), networks=4) >= 0.93 - 2 * 0.0255


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("shape", "networks"), [((3, 3), 3), ((3, 3), 5), ((2, 2, 2), 4), ((5,), 5)])
@pytest.mark.parametrize(
    "kind", ["moderate", "independent", "strong", "nearly perfect", "confounded", "ties", "negative", "heavy tails"]
)
def test_intervals_cover_93_percent_of_2000_trials(
    kind: str, shape: tuple[int, ...], networks: int, grid: Callable[..., Any]
) -> None:
    assert covers(grid, kind, trials=2000, shape=shape, networks=networks) >= 0.93
