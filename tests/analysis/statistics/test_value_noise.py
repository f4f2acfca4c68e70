"""Errors of values in the intervals of rank correlations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sharpbench.analysis.statistics import kendall_tau, marginal_tau, shared_ranks
from sharpbench.analysis.statistics.granulated import granulated_tau, granulated_values
from sharpbench.analysis.statistics.interval import Interval, correlation_interval, p_value, widen_interval
from sharpbench.analysis.statistics.uncertainty import Uncertainty
from sharpbench.analysis.statistics.value_noise import draw_values, known_variance, noise_variance, widen_tau


def test_half_widths_add_in_squares_on_the_scale_of_atanh() -> None:
    around = Interval(math.tanh(-0.3), math.tanh(0.4))
    further = widen_interval(0.0, around, (0.4 / 1.959964) ** 2)
    assert math.atanh(further.low) == pytest.approx(-0.5, rel=1e-6)
    assert math.atanh(further.high) == pytest.approx(math.hypot(0.4, 0.4), rel=1e-6)
    assert widen_interval(0.0, around, 0.0) == pytest.approx(around)
    certain = Interval(0.2, 1.0)
    assert widen_interval(1.0, certain, 0.1) == certain
    assert widen_interval(-0.9, Interval(-1.0, 0.0), 0.1).low == pytest.approx(-1.0)


def test_errors_far_below_the_differences_change_nothing() -> None:
    x, y = np.arange(12.0), np.arange(12.0)[::-1].copy()
    y[:4] = y[:4][::-1]
    assert noise_variance(lambda each: kendall_tau(each, y), x, np.full(12, 1e-6)) < 1e-20
    tau = marginal_tau(x, y, [0] * 12)
    assert widen_tau(tau, 0.0) is tau


def test_the_variance_is_that_of_the_correlation_of_values_drawn_again() -> None:
    rng = np.random.default_rng(3)
    x, y, errors = rng.standard_normal(30), rng.standard_normal(30), np.full(30, 0.7)
    again = [kendall_tau(x + errors * rng.standard_normal(30), y) for _ in range(500)]
    assert noise_variance(lambda each: kendall_tau(each, y), x, errors) == pytest.approx(np.var(again), rel=0.5)
    assert [list(each) for each in draw_values(x, errors)] == [list(each) for each in draw_values(x, errors)]
    assert known_variance([None, 1.0]) == 0.0


def test_ranks_are_shared_where_errors_explain_the_difference() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(40.0)
    good, bad = y + rng.standard_normal(40), rng.standard_normal(40)
    cells = [0] * 40
    assert shared_ranks([good, bad], y, cells, within=False) == (1, 2)
    assert shared_ranks([good, bad], y, cells, within=False, noise=[1.0, 1.0]) == (1, 1)


def test_values_of_psi_are_those_with_intervals() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal(24), rng.standard_normal(24)
    axes = {"rate": [each % 3 for each in range(24)], "size": [each // 12 for each in range(24)]}
    full = granulated_tau(x, y, axes)
    overall, by_axis = granulated_values(x, y, axes)
    assert overall == pytest.approx(full.overall.value)
    assert by_axis == pytest.approx({name: tau.value for name, tau in full.axes.items()})
    assert granulated_values(x, np.zeros(24), axes) == (None, {})


@pytest.mark.parametrize("value", [0.2, 0.5, 0.9, -0.4])
def test_p_is_below_five_percent_where_the_interval_leaves_out_zero(value: float) -> None:
    for further in np.linspace(0.0, 0.3, 40):
        known = Uncertainty(0.01, 12.0, 20.0, float(further))
        around = correlation_interval(value, known, skewness=0.0)
        assert (p_value(value, known) < 0.05) == (0 not in around)
    assert p_value(value, known) > p_value(value, Uncertainty(0.01, 12.0, 20.0))
