"""Tau against scipy, against counting pairs by hand, and against the paper's archive."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from sharpbench.analysis.statistics import Interval, kendall_tau, marginal_tau, within_tau

ARCHIVE = files("sharpbench.replays.minimum_sharpness_2021") / "data" / "minimum_sharpness_2021.csv"


def counted(x: np.ndarray, y: np.ndarray) -> float:
    """Tau-b by going through the pairs."""
    pairs = list(itertools.combinations(range(len(x)), 2))
    agree = sum(np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]) for i, j in pairs)
    return float(agree / np.sqrt(sum(x[i] != x[j] for i, j in pairs) * sum(y[i] != y[j] for i, j in pairs)))


def test_kendall_with_ties_is_scipys_and_the_definition() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 4, size=(2, 12)).astype(float)
        assert kendall_tau(x, y) == pytest.approx(counted(x, y), abs=1e-14)
        assert kendall_tau(x, y) == pytest.approx(kendalltau(x, y).statistic, abs=1e-14)


def test_two_networks_have_a_tau() -> None:
    assert kendall_tau([1, 2], [3, 4]) == 1
    assert kendall_tau([1, 2], [4, 3]) == -1
    assert kendall_tau([1, 2], [4, 4]) is None


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ([], [], "0 networks, tau needs 2"),
        ([1.0], [2.0], "1 network, tau needs 2"),
        ([3.0] * 6, [1.0, 2, 3, 4, 5, 6], "the measure is the same for all networks"),
        ([1.0, 2, 3, 4, 5, 6], [3.0] * 6, "the gap is the same for all networks"),
    ],
)
def test_an_undefined_tau_is_none_with_its_reason(x: list[float], y: list[float], reason: str) -> None:
    cells = [index % 2 for index in range(len(x))]
    assert kendall_tau(x, y) is None
    for tau in (marginal_tau(x, y, cells), within_tau(x, y, cells)):
        assert (tau.value, tau.interval, tau.reason) == (None, None, reason)
        assert tau.networks == len(x)


def test_tau_within_is_the_mean_over_the_cells_in_which_it_is_defined() -> None:
    rng = np.random.default_rng(1)
    cells = np.repeat(["b", "a", "c"], [5, 7, 6])
    x, y = rng.standard_normal((2, 18))
    x[cells == "c"] = 1.0
    tau = within_tau(x, y, cells)
    assert tau.value == pytest.approx(np.mean([counted(x[cells == cell], y[cells == cell]) for cell in "ab"]))
    assert (tau.cells, tau.networks) == (2, 18)
    assert tau.interval is not None
    assert tau.value in tau.interval


def test_cells_without_a_tau_do_not_make_the_interval_narrower() -> None:
    rng = np.random.default_rng(8)
    cells = np.repeat(np.arange(5), 5)
    x, y = np.arange(25.0), np.arange(25.0) + 0.1 * rng.standard_normal(25)
    x[5:] = 0.0
    alone, among = within_tau(x[:5], y[:5], cells[:5]), within_tau(x, y, cells)
    assert (alone.value, alone.interval) == (among.value, among.interval)
    x[:5], y[:5] = rng.standard_normal((2, 5))
    alone, among = within_tau(x[:5], y[:5], cells[:5]), within_tau(x, y, cells)
    assert alone.interval is not None
    assert among.interval is not None
    assert among.interval.low == pytest.approx(alone.interval.low, abs=1e-12)
    assert among.cells == 1


def test_what_is_constant_in_every_cell_has_no_tau_within() -> None:
    cells = np.repeat([0, 1], 5)
    tau = within_tau(cells, np.arange(10), cells)
    assert (tau.value, tau.reason) == (None, "within each cell the measure or the gap is the same for all networks")
    alone = within_tau([1, 2, 3], [1, 2, 3], [0, 1, 2])
    assert (alone.value, alone.reason) == (None, "no two networks share a cell")


def test_small_cells_have_a_value_but_no_interval() -> None:
    x = np.array([1.0, 2, 4, 3, 6, 5, 8, 7, 9])
    cells = np.repeat([0, 1], [5, 4])
    within, marginal = within_tau(x, np.arange(9), cells), marginal_tau(x, np.arange(9), cells)
    assert within.value is not None
    assert (within.interval, within.reason) == (None, "the smallest cell holds 4 networks, an interval needs 5")
    assert marginal.interval is not None
    tiny = marginal_tau(x, np.arange(9), np.repeat([0, 1], [8, 1]))
    assert (tiny.interval, tiny.reason) == (None, "the smallest cell holds 1 network, an interval needs 3")


def test_a_perfect_order_is_not_certain() -> None:
    cells = np.repeat(np.arange(5), 5)
    tau = marginal_tau(np.arange(25), np.arange(25), cells)
    assert tau.value == 1
    assert tau.interval is not None
    assert 0.65 < tau.interval.low < 0.75
    assert tau.interval.high == pytest.approx(1)
    reverse = marginal_tau(-np.arange(25), np.arange(25), cells)
    assert reverse.interval is not None
    assert (reverse.interval.low, reverse.interval.high) == (pytest.approx(-1), pytest.approx(-tau.interval.low))


def test_a_confounder_makes_a_useless_measure_look_perfect_until_it_is_held_fixed(
    population: Callable[..., Any],
) -> None:
    x, y, cells = population("confounded", np.random.default_rng(3), configurations=40, networks=6)
    marginal, within = marginal_tau(x, y, cells), within_tau(x, y, cells)
    assert marginal.value is not None
    assert marginal.value > 0.95
    assert within.interval is not None
    assert 0.0 in within.interval
    assert within.interval.high - within.interval.low < 0.4


def test_neither_order_nor_scale_nor_names_of_cells_matter() -> None:
    rng = np.random.default_rng(4)
    cells, order = np.repeat(np.arange(4), 6), rng.permutation(24)
    y = cells + rng.standard_normal(24)
    x = y + rng.standard_normal(24)
    for tau in (marginal_tau, within_tau):
        one, other = tau(x, y, cells), tau(np.exp(x)[order], 3 * y[order] - 7, 100 - cells[order])
        assert one.value == pytest.approx(other.value, abs=1e-14)
        assert one.interval is not None
        assert other.interval is not None
        assert (one.interval.low, one.interval.high) == (
            pytest.approx(other.interval.low, abs=1e-12),
            pytest.approx(other.interval.high, abs=1e-12),
        )


def test_what_cannot_be_used_is_named() -> None:
    with pytest.raises(ValueError, match="x has 2 values and y has 3; give one of each per network"):
        kendall_tau([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="x, y and cells have 2, 2 and 3 values"):
        marginal_tau([1, 2], [1, 2], [0, 0, 1])
    with pytest.raises(ValueError, match="y holds nan; leave networks without a finite value out"):
        within_tau([1, 2], [1, float("nan")], [0, 0])
    with pytest.raises(ValueError, match=r"x has shape \(1, 2\); give one number per network"):
        kendall_tau([[1, 2]], [1, 2])  # type: ignore[list-item]


def archive(model: str, measure: str, *, gate: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with ARCHIVE.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == model]
    rows = [row for row in rows if not gate or float(row["train_accuracy"]) > 0.5]
    gap = [float(row["train_accuracy"]) - float(row["test_accuracy"]) for row in rows]
    return (
        np.array([float(row[measure]) for row in rows]),
        np.array(gap),
        np.array([row["label_noise"] for row in rows]),
    )


@pytest.mark.parametrize(
    ("model", "measure", "gate", "networks", "marginal", "within"),
    [
        ("MLP", "minimum_sharpness", False, 110, 0.864, 0.479),
        ("LeNet", "minimum_sharpness", False, 110, 0.678, 0.030),
        ("MLP", "normalized_sharpness", False, 110, 0.942, 0.390),
        ("LeNet", "normalized_sharpness", False, 110, 0.723, 0.054),
        ("MLP", "minimum_sharpness", True, 107, 0.857, 0.472),
        ("MLP", "normalized_sharpness", True, 107, 0.941, 0.398),
        ("LeNet", "minimum_sharpness", True, 110, 0.678, 0.030),
        ("MLP", "label_noise", False, 110, 0.955, None),
        ("LeNet", "label_noise", False, 110, 0.958, None),
    ],
)
def test_the_papers_archive(
    model: str, measure: str, gate: bool, networks: int, marginal: float, within: float | None
) -> None:
    found, inside = marginal_tau(*archive(model, measure, gate=gate)), within_tau(*archive(model, measure, gate=gate))
    assert found.networks == networks
    assert found.value == pytest.approx(marginal, abs=5e-4)
    assert found.interval is not None
    if within is None:
        assert inside.value is None
    else:
        assert inside.value == pytest.approx(within, abs=5e-4)
        assert inside.interval is not None


def test_an_interval_knows_what_is_in_it() -> None:
    assert 0.5 in Interval(0.0, 0.5)
    assert 0.6 not in Interval(0.0, 0.5)
