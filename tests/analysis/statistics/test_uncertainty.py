"""The bounds on variances and degrees of freedom, on cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from sharpbench.analysis.statistics.interval import correlation_interval, p_value
from sharpbench.analysis.statistics.uncertainty import Uncertainty, assess_uncertainty

EVEN = np.tile([1.0, -1.0], 10)  # influences of equal size in every cell


def test_equal_cells_of_equal_spread_keep_their_variance_and_lose_two_degrees() -> None:
    cells = np.repeat(np.arange(2), 10)
    found = assess_uncertainty(EVEN, np.array([4.0, 4.0]), cells, np.ones(2), untied=1.0)
    assert found.variance == pytest.approx(20 - 0.5 * 8)
    assert (found.freedom, found.networks) == (pytest.approx(16), 20)


def test_a_quiet_small_cell_is_given_the_spread_of_the_large_one() -> None:
    cells = np.repeat(np.arange(2), [4, 16])
    single = np.where(cells == 0, 0.0, EVEN)
    found = assess_uncertainty(single, np.zeros(2), cells, np.ones(2), untied=1.0)
    # in the weights 1 and 1, a network of the cell of 4 counts four times one of the cell of 16; pooled with 3 and 15
    # degrees of freedom its cell, which shows none, lowers the variance by 15 / 18
    assert found.variance == pytest.approx(16 * (1 + 16 / 4) * 15 / 18)
    welch = (1 / 4 + 1 / 16) ** 2 / ((1 / 4) ** 2 / 3 + (1 / 16) ** 2 / 15)
    assert found.freedom == pytest.approx(welch - 1)
    assert found.networks == pytest.approx(20 * welch / 18)


def test_where_one_network_decides_there_are_few_degrees_of_freedom() -> None:
    single = EVEN.copy()
    single[0] = 30.0
    found = assess_uncertainty(single, np.zeros(1), np.zeros(20, dtype=np.intp), np.ones(1), untied=1.0)
    assert found.freedom == 2
    assert found.variance == pytest.approx(919)


def test_ties_count_against_the_degrees_of_freedom() -> None:
    one = np.zeros(20, dtype=np.intp)
    assert assess_uncertainty(EVEN, np.zeros(1), one, np.ones(1), untied=0.5).freedom == pytest.approx(0.5 * 19 - 2)
    assert assess_uncertainty(EVEN, np.zeros(1), one, np.ones(1), untied=0.1).freedom == 2


def test_cells_without_weight_do_not_count() -> None:
    cells = np.repeat(np.arange(2), 10)
    single = np.where(cells == 0, EVEN, 0.0)
    both = assess_uncertainty(single, np.zeros(2), cells, np.array([1.0, 0.0]), untied=1.0)
    assert both == assess_uncertainty(single[:10], np.zeros(1), cells[:10], np.ones(1), untied=1.0)


def test_no_change_at_all_is_no_variance() -> None:
    found = assess_uncertainty(np.zeros(20), np.zeros(2), np.repeat(np.arange(2), 10), np.ones(2), untied=1.0)
    assert (found.variance, found.freedom, found.networks) == (0, 16, 20)


def test_the_excess_takes_away_three_quarters_at_most() -> None:
    one = np.zeros(20, dtype=np.intp)
    assert assess_uncertainty(EVEN, np.array([100.0]), one, np.ones(1), untied=1.0).variance == pytest.approx(5)


def test_the_end_towards_0_is_farther_away_by_8_r_over_n() -> None:
    known = Uncertainty(variance=0.01, freedom=18.0, networks=25.0)
    even, found, below = (
        correlation_interval(0.6, known, skewness=0.0),
        correlation_interval(0.6, known),
        correlation_interval(-0.6, known),
    )
    reach = float(student.ppf(0.975, 18)) * 0.1 / (1 - 0.36)
    assert (even.low, even.high) == pytest.approx(
        (math.tanh(math.atanh(0.6) - reach), math.tanh(math.atanh(0.6) + reach))
    )
    low = math.tanh(math.atanh(0.6) - (1 + 8 * 0.6 / 25) * reach)
    assert (found.low, found.high) == pytest.approx((low, even.high))
    assert (below.low, below.high) == pytest.approx((-found.high, -found.low))
    narrow = Uncertainty(variance=1e-6, freedom=18.0, networks=25.0)
    assert p_value(1e-3 * float(student.ppf(0.975, 18)), narrow) == pytest.approx(0.05, abs=1e-4)  # where it ends at 0
