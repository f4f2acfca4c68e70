"""Intervals of means of skewed samples: what they cover, with a fixed number of samples and with a precision."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import t as student
from torch import Tensor

from sharpbench.curvature.confidence import check_budget, mean_of, next_round
from sharpbench.errors import InvalidInput


def forms(count: int, rank: int, generator: torch.Generator) -> Tensor:
    """Quadratic forms of Gaussian vectors, of mean 1: the most skewed there are, for that rank."""
    return torch.randn(count, rank, generator=generator, dtype=torch.float64).square().mean(1)


def test_without_skewness_it_is_students() -> None:
    samples = torch.arange(16.0)
    found = mean_of([samples], exact=10.0)
    stderr = float(samples.std()) / 4
    assert (found.value, found.stderr) == (17.5, pytest.approx(stderr))
    reach = float(student.ppf(0.975, 15)) * stderr
    assert found.interval == pytest.approx((17.5 - reach, 17.5 + reach))


def test_few_samples_state_no_interval() -> None:
    found = mean_of([torch.arange(15.0), torch.arange(40.0) / 100])
    assert found.interval is None
    assert mean_of([torch.arange(8.0)] * 3).interval is not None  # 21 degrees of freedom
    assert found.stderr > 0
    assert not found.within(1e9)


def test_the_longer_side_is_that_of_the_tail() -> None:
    samples = torch.tensor([1.0] * 16 + [6.0] * 4)
    found = mean_of([samples])
    assert found.interval is not None
    assert found.interval[1] - found.value > 1.2 * (found.value - found.interval[0]) > 0
    mirrored = mean_of([-samples])
    assert mirrored.interval == pytest.approx((-found.interval[1], -found.interval[0]))


def test_constant_samples_have_no_width() -> None:
    assert mean_of([torch.full((4,), 0.25)]).interval == (0.25, 0.25)
    assert mean_of([], exact=3.0).interval == (3.0, 3.0)


@pytest.mark.parametrize(
    ("samples", "rank", "groups"), [(30, 1, 1), (30, 1, 3), (30, 3, 3), (30, 30, 1), (200, 1, 1), (200, 3, 3)]
)
def test_fixed_budgets_cover(samples: int, rank: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(1000):
        low, high = mean_of([forms(samples, rank, generator) for _ in range(groups)]).interval or (0, 0)
        hits += low <= groups <= high
    assert 0.93 <= hits / 1000 <= 0.97


@pytest.mark.parametrize("precision", [0.3, pytest.param(0.1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("rank", [1, 3, 30])
def test_the_stopping_rule_covers(rank: int, precision: float) -> None:
    generator = torch.Generator().manual_seed(0)
    hits = 0
    trials = 800 if precision > 0.1 else 2000
    for _ in range(trials):
        drawn = forms(30, rank, generator)
        while not (found := mean_of([drawn])).within(precision):
            drawn = torch.cat((drawn, forms(next_round(30, len(drawn)), rank, generator)))
        assert found.interval is not None
        hits += found.interval[0] <= 1 <= found.interval[1]
    assert hits / trials >= 0.93


@pytest.mark.parametrize(("samples", "precision"), [(1, None), (29, 0.1), (30, 0.0), (30, -1.0), (30, float("nan"))])
def test_what_gives_no_interval(samples: int, precision: float | None) -> None:
    with pytest.raises(InvalidInput, match=r"at least 2|needs precision > 0 and samples >= 30"):
        check_budget(samples, precision)
