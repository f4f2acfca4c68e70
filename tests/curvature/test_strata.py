"""Stratified samples: how often intervals that stop at a precision cover, what they cost, and when they give up."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sharpbench.curvature.confidence import PILOT
from sharpbench.curvature.strata import Stratum, sample_strata
from sharpbench.curvature.trace_estimators import draw_signs


def matrices(seed: int, count: int = 8, size: int = 40) -> list[Tensor]:
    """Symmetric matrices whose sizes differ by a factor of up to 60, positive on average."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for place in range(count):
        drawn = torch.randn(size, 6, generator=generator, dtype=torch.float64)
        signs = torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
        found.append(drawn @ (signs[:, None] * drawn.T) / 4.0 ** (place / 2))
    return found


def stratum(matrix: Tensor, cost: float, generator: torch.Generator) -> Stratum:
    """The form of a matrix, in two parts."""

    def draw(count: int) -> Tensor:
        probes = draw_signs(matrix[0], count, generator)
        products = probes * (probes @ matrix)
        return torch.stack([part.sum(1) for part in products.split(len(matrix) // 2, 1)], 1)

    return Stratum(cost, draw)


@pytest.mark.parametrize(("precision", "count"), [(0.15, 8), (0.05, 8), (0.05, 1)])
def test_intervals_cover_as_often_as_they_say(precision: float, count: int) -> None:
    given = matrices(0, count)
    truth = 40 + sum(float(each.trace()) for each in given)
    generator = torch.Generator().manual_seed(1)
    hits, errors, stderrs, costs = 0, [], [], set()
    for _ in range(200):
        strata = [stratum(each, 1 / count, generator) for each in given]
        found = sample_strata(strata, known=40, precision=precision, budget=1e6)
        assert found.total.within(precision)
        assert found.total.interval is not None
        hits += found.total.interval[0] <= truth <= found.total.interval[1]
        errors.append(found.total.value - truth)
        stderrs.append(found.total.stderr)
        assert 40 + float(found.means().sum()) == pytest.approx(found.total.value)
        costs.add(round(found.cost, 9))
    assert 0.92 <= hits / 200 <= 0.98  # 0.95, two standard deviations more or less
    spread = torch.tensor(errors, dtype=torch.float64)
    assert abs(float(spread.mean())) < 4 * float(spread.std()) / 200**0.5  # unbiased
    assert math.sqrt(sum(each**2 for each in stderrs) / 200) == pytest.approx(float(spread.std()), rel=0.2)
    assert len(costs) > 3


def test_samples_go_where_the_spread_is() -> None:
    generator = torch.Generator().manual_seed(0)
    given = matrices(0)
    found = sample_strata([stratum(each, 1, generator) for each in given], known=0, precision=0.02, budget=1e6)
    strata = [torch.cat((first, second)) for first, second in zip(found.halves[::2], found.halves[1::2], strict=True)]
    counts = [len(each) for each in strata]
    deviations = [float(each.sum(1).std()) for each in strata]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] / counts[3] == pytest.approx(deviations[0] / deviations[3], rel=0.25)


def test_skewed_samples_do_not_bias_the_mean() -> None:
    """Sizes that follow from a half's own spread leave the mean low by 0.7 errors, and 84 % of intervals cover."""
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> Tensor:  # a form in two dimensions: chi-squared, of skewness 2
        return torch.randn(count, 2, 1, generator=generator, dtype=torch.float64).square().sum(1)

    errors = []
    for _ in range(75):
        found = sample_strata([Stratum(1 / 16, draw)] * 16, known=0, precision=0.1, budget=1e6)
        errors.append(found.total.value - 32)
    spread = torch.tensor(errors, dtype=torch.float64)
    assert abs(float(spread.mean())) < 3 * float(spread.std()) / 75**0.5


def test_the_budget_is_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    strata = [stratum(each, 0.5, generator) for each in matrices(0)]
    found = sample_strata(strata, known=0, precision=1e-6, budget=50)
    assert 46 <= found.cost <= 50
    assert not found.total.within(1e-6)
    least = sample_strata(strata, known=0, precision=1e-6, budget=0)
    assert least.drawn == PILOT * len(strata)


def test_a_dear_plan_gives_way_to_the_exact_value() -> None:
    generator = torch.Generator().manual_seed(0)
    strata = [stratum(each, 1, generator) for each in matrices(0)]
    assert sample_strata(strata, known=0, precision=1e-4, budget=1e6, exact_cost=1000).exact_instead
    assert not sample_strata(strata, known=0, precision=0.2, budget=1e6, exact_cost=1000).exact_instead
    assert not sample_strata(strata, known=0, precision=1e-4, budget=500, exact_cost=1000).exact_instead


def test_samples_without_spread_are_exact() -> None:
    found = sample_strata(
        [Stratum(1, lambda count: torch.full((count, 2), 1.5, dtype=torch.float64))],
        known=1,
        precision=0.01,
        budget=100,
    )
    assert (found.total.value, found.total.stderr, found.drawn) == (4.0, 0.0, PILOT)


def test_a_precision_whose_square_is_zero_takes_the_whole_budget() -> None:
    generator = torch.Generator().manual_seed(0)
    found = sample_strata([stratum(matrices(0)[0], 1, generator)], known=1, precision=1e-200, budget=50)
    assert found.cost == 50
