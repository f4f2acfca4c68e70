"""The mean difference of pairs: by the formula, how often its interval covers, and where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from sharpbench.analysis.statistics import MIN_PAIRS, Interval, paired_mean


def test_by_the_formula() -> None:
    one, other = [3.0, 4.0, 6.0, 9.0], [1.0, 1.0, 2.0, 2.0]
    found = paired_mean(one, other)
    differences = np.array([2.0, 3.0, 4.0, 7.0])
    reach = student.ppf(0.975, 3) * differences.std(ddof=1) / 2
    assert found.value == pytest.approx(4.0)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (pytest.approx(4.0 - reach), pytest.approx(4.0 + reach))
    assert (found.pairs, found.reason) == (4, None)


def test_what_pairs_share_cancels_and_exchanging_sides_changes_the_sign() -> None:
    generator = np.random.default_rng(0)
    shared, noise = 100 * generator.standard_normal(8), generator.standard_normal((2, 8))
    found, back = paired_mean(shared + noise[0], shared + noise[1]), paired_mean(shared + noise[1], shared + noise[0])
    assert found.interval is not None
    assert found.interval.high - found.interval.low < 10
    assert back.value == pytest.approx(-(found.value or 0))
    assert back.interval == Interval(pytest.approx(-found.interval.high), pytest.approx(-found.interval.low))


@pytest.mark.parametrize("pairs", [3, 10])
def test_the_interval_covers_as_often_as_it_says(pairs: int) -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        one, other = generator.standard_normal(pairs) + 0.3, 2 * generator.standard_normal(pairs)
        interval = paired_mean(one, other).interval
        covered += interval is not None and 0.3 in interval
    assert 274 <= covered <= 296  # three standard errors around 285


def test_pairs_that_lack_a_number_are_left_out() -> None:
    found = paired_mean([1.0, math.nan, 3.0, 5.0, math.inf], [0.0, 1.0, 1.0, 2.0, 0.0])
    assert (found.value, found.pairs) == (pytest.approx(2.0), 3)


@pytest.mark.parametrize(
    ("one", "other", "value", "reason"),
    [
        ([], [], None, "no pair has both values"),
        ([math.nan], [1.0], None, "no pair has both values"),
        ([1.0, 2.0], [0.0, 0.0], 1.5, f"2 pairs, fewer than {MIN_PAIRS}"),
        ([1.0, 2.0, 3.0], [0.5, 1.5, 2.5], 0.5, "all pairs differ equally"),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 0.0, "all pairs differ equally"),
    ],
)
def test_where_there_is_no_interval(one: list[float], other: list[float], value: float | None, reason: str) -> None:
    found = paired_mean(one, other)
    assert found.value == (None if value is None else pytest.approx(value))
    assert (found.interval, found.reason) == (None, reason)


def test_sides_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pairs of shapes \(2,\) and \(3,\); give one value of each a pair"):
        paired_mean([1.0, 2.0], [1.0, 2.0, 3.0])
