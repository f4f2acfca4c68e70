"""The smallest difference that a population could have shown, against how often it is shown."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from sharpbench.analysis.statistics import compare_measures, rank_measures
from sharpbench.analysis.statistics.power import detectable_difference, median_detectable

CELLS = np.repeat(np.arange(12), 6)


def compare(seed: int, other: float) -> tuple[float, float, bool]:
    """The difference of two measures in a population, what could have been shown there, and whether it was."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(len(CELLS))
    measures = [y + spread * rng.standard_normal(len(CELLS)) for spread in (1.0, other)]
    found = compare_measures(measures, y, CELLS, within=False)
    return found[0].difference, median_detectable(found) or 0.0, found[0].better is not None


def test_a_difference_of_that_size_is_shown_in_four_of_five_populations() -> None:
    differences, detectable, shown = np.array([compare(seed, 2.6) for seed in range(100)]).T
    assert float(differences.mean()) == pytest.approx(float(np.median(detectable)), rel=0.1)
    assert 0.68 < float(shown.mean()) < 0.92  # three standard errors


def test_with_many_degrees_of_freedom_it_is_the_formula_for_normal_errors() -> None:
    wanted = 0.1 * (norm.ppf(0.975) + norm.ppf(0.8))
    assert detectable_difference(0.1, 1e7, 1) == pytest.approx(wanted, rel=1e-5)
    ten = 0.05 / (10 * sum(1 / number for number in range(1, 11)))
    assert detectable_difference(0.1, 1e7, 10) == pytest.approx(0.1 * (norm.ppf(1 - ten / 2) + norm.ppf(0.8)), rel=1e-5)
    assert detectable_difference(0.1, 5.0, 10) > detectable_difference(0.1, 50.0, 10)
    assert detectable_difference(9.0, 5.0, 1) == 2.0


def test_a_board_without_comparisons_has_none() -> None:
    y = np.arange(72.0)
    assert rank_measures([y], y, CELLS, within=False).detectable is None
    assert rank_measures([y + 1, y + 2], y, CELLS, within=False).detectable is None  # they order the networks alike


def test_errors_of_the_values_leave_less_power() -> None:
    """Another draw of the examples is among the errors that hide a difference, as it is in its interval and p."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal(len(CELLS))
    measures = [y + spread * rng.standard_normal(len(CELLS)) for spread in (1.0, 2.6)]
    (exact,) = compare_measures(measures, y, CELLS, within=False)
    (drawn,) = compare_measures(measures, y, CELLS, within=False, noise=[0.03, 0.04])
    assert drawn.error == pytest.approx(np.sqrt(exact.error**2 + 0.07))
    assert drawn.freedom > exact.freedom
    (nearly,) = compare_measures(measures, y, CELLS, within=False, noise=[1e-12, 0.0])
    assert (nearly.error, nearly.freedom) == pytest.approx((exact.error, exact.freedom))
    found = [rank_measures(measures, y, CELLS, within=False, noise=noise).detectable for noise in (None, [0.03, 0.04])]
    assert found[1] == pytest.approx(detectable_difference(drawn.error, drawn.freedom, 1))
    assert (found[0] or 0.0) < (found[1] or 0.0)
