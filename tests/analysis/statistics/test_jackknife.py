"""The variance behind the intervals: against leaving networks out by hand, and against drawing populations again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sharpbench.analysis.statistics import (
    kendall_tau,
    marginal_jackknife,
    marginal_tau,
    paired_difference,
    rank_correlation,
    within_tau,
)
from sharpbench.analysis.statistics.jackknife import (
    CellSums,
    jackknife_cell_sums,
    jackknife_pairs,
    jackknife_stack,
)
from sharpbench.analysis.statistics.rank_correlation import cell_taus, marginal_kernel, within_estimates, within_kernel

TRIALS = 100
AT_LEAST = 0.93 - 2 * (0.93 * 0.07 / TRIALS) ** 0.5
"""93 % of the trials, less two standard errors of the share."""


def weighted_sum(kernel: np.ndarray, cells: np.ndarray, left_out: int | None = None) -> float:
    """The kernel's sum over ordered pairs, each block of two cells as its mean times the pairs of the full design."""
    kept = np.array([index != left_out for index in range(len(cells))])
    total = 0.0
    for one in np.unique(cells):
        for other in np.unique(cells):
            rows, columns = np.flatnonzero((cells == one) & kept), np.flatnonzero((cells == other) & kept)
            size, size_other = (cells == one).sum(), (cells == other).sum()
            pairs = len(rows) * (len(rows) - 1) if one == other else len(rows) * len(columns)
            full = size * (size - 1) if one == other else size * size_other
            total += kernel[np.ix_(rows, columns)].sum() / pairs * full
    return total


def test_single_is_the_stratified_jackknife_with_the_weights_of_the_cells_kept() -> None:
    rng = np.random.default_rng(0)
    cells = np.repeat([0, 1, 2], [3, 5, 4])
    half = rng.standard_normal((12, 12))
    kernel = half + half.T
    np.fill_diagonal(kernel, 0)
    without = np.array([weighted_sum(kernel, cells, left_out) for left_out in range(12)])
    expected = 0.0
    for cell in range(3):
        part = without[cells == cell]
        expected += (len(part) - 1) / len(part) * float(((part - part.mean()) ** 2).sum())
    single = jackknife_pairs([kernel.__getitem__], cells).single[0]
    assert float(single @ single) == pytest.approx(expected, rel=1e-12)
    assert weighted_sum(kernel, cells) == pytest.approx(kernel.sum())


def test_pairs_that_are_the_sum_of_their_members_have_no_excess() -> None:
    cells = np.repeat([0, 1, 2], [4, 5, 6])
    own = np.random.default_rng(1).standard_normal((15, 3))
    kernel = own[:, cells] + own[:, cells].T  # a network's part may depend on the cell of the other
    np.fill_diagonal(kernel, 0)
    assert np.abs(jackknife_pairs([kernel.__getitem__], cells).excess).max() < 1e-12


def excess(kernel: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """[n, n] The residuals of pairs by definition, each weighted by how often the jackknife counts it too often."""
    found = np.zeros(kernel.shape)
    for one in np.unique(cells):
        for other in np.unique(cells):
            rows, columns = np.flatnonzero(cells == one), np.flatnonzero(cells == other)
            block, size, size_other = kernel[np.ix_(rows, columns)], len(rows), len(columns)
            if one != other and min(size, size_other) > 1:
                residual = block - block.mean(axis=0) - block.mean(axis=1)[:, None] + block.mean()
                weight = size / (size - 1) * size_other / (size_other - 1)
            elif one == other and size > 3:
                own = block.sum(axis=1) / (size - 2)
                residual = block - own - own[:, None] + block.sum() / ((size - 1) * (size - 2))
                np.fill_diagonal(residual, 0)
                weight = size * (size - 1) / ((size - 2) * (size - 3))
            else:
                continue
            found[np.ix_(rows, columns)] = np.sqrt(2 * weight) * residual
    return found


@pytest.mark.parametrize("at_once", [1, 40, 10**6])
@pytest.mark.parametrize("sizes", [(12,), (3, 5, 4), (1, 2, 9), (2, 2, 2)])
def test_products_of_the_excess_are_those_of_the_definition(
    sizes: tuple[int, ...], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharpbench.analysis.statistics.jackknife.MAX_ENTRIES_AT_ONCE", at_once)
    rng = np.random.default_rng(10)
    cells = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    halves = rng.standard_normal((3, len(cells), len(cells)))
    kernels = [half + half.T - 2 * np.diag(np.diag(half)) for half in halves]
    found = jackknife_pairs([kernel.__getitem__ for kernel in kernels], cells)
    slow = [excess(kernel, cells) for kernel in kernels]
    for cell in range(len(sizes)):
        expected = [[float((one * other)[cells == cell].sum()) for one in slow] for other in slow]
        np.testing.assert_allclose(found.excess[cell], expected, rtol=1e-12, atol=1e-12)
    single, left = found.combine(np.array([1.0, -1.0, 0.0]))  # the difference of two statistics
    other = jackknife_pairs([(kernels[0] - kernels[1]).__getitem__], cells).combine(np.ones(1))
    np.testing.assert_allclose(single, other[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(left, other[1], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("sizes", [(3, 5, 4), (1, 2, 9), (2, 2, 2)])
def test_sums_by_network_and_cell_have_the_jackknife_of_their_matrix(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(11)
    cells = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    half = rng.standard_normal((len(cells), len(cells))) * (rng.random((len(cells), len(cells))) < 0.4)
    kernel = (half + half.T) * (cells[:, None] != cells)
    into = np.equal.outer(cells, np.arange(len(sizes))).astype(float)
    network, partner = np.nonzero(cells[:, None] != np.arange(len(sizes)))
    sums = CellSums(network, partner, (kernel @ into)[network, partner], (kernel**2 @ into)[network, partner])
    found = jackknife_cell_sums(sums, cells)
    expected = jackknife_pairs([kernel.__getitem__], cells)
    np.testing.assert_allclose(found.single, expected.single, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.excess, expected.excess, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_a_stack_of_cells_has_the_jackknife_of_each_cell(size: int) -> None:
    half = np.random.default_rng(12).standard_normal((2, 3, size, size))
    kernels = (half + half.swapaxes(2, 3)) * (1 - np.eye(size))
    single, excess = jackknife_stack(kernels)
    for cell in range(3):
        expected = jackknife_pairs([each[cell].__getitem__ for each in kernels], np.zeros(size, dtype=np.intp))
        np.testing.assert_allclose(single[:, cell], expected.single, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(excess[cell], expected.excess[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["moderate", "ties"])
def test_cells_evaluated_together_are_those_evaluated_one_by_one(
    kind: str, population: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y, cells = population(kind, np.random.default_rng(13), configurations=5, networks=7)
    kept = np.random.default_rng(14).permutation(35)[:30]  # cells of several sizes, in no order
    x, y, cells = x[kept], y[kept], cells[kept]
    measures = [x, -(x**3), np.round(x)]
    together = within_estimates(measures, y, cells, None)
    monkeypatch.setattr(rank_correlation, "MAX_STACKED_SIZE", 0)
    one_by_one = within_estimates(measures, y, cells, None)
    np.testing.assert_allclose(together.jackknife.single, one_by_one.jackknife.single, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(together.jackknife.excess, one_by_one.jackknife.excess, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("kind", ["moderate", "confounded"])
def test_jackknife_minus_excess_is_unbiased_and_the_jackknife_alone_is_not(
    kind: str, within: bool, population: Callable[..., Any]
) -> None:
    rng, taus, corrected, jackknifed = np.random.default_rng(2), [], [], []
    trials = 300
    for _ in range(trials):
        x, y, cells = population(kind, rng, configurations=3, networks=5)
        taus.append(np.mean(cell_taus(x, y, cells)[0]) if within else kendall_tau(x, y))
        kernel = within_kernel(x, y, cells) if within else marginal_kernel(x, y)
        single, overcount = jackknife_pairs([kernel], cells).combine(np.ones(1))
        jackknifed.append(float(single @ single))
        corrected.append(jackknifed[-1] - float(overcount.sum()))
    variance = np.var(taus)
    scatter = np.std(corrected) / np.sqrt(trials) + variance * np.sqrt(3 / trials)
    assert np.mean(corrected) == pytest.approx(variance, abs=3 * scatter)
    assert np.mean(jackknifed) > variance + scatter


def covers(tau: Any, kind: str, population: Callable[..., Any], *, trials: int, design: tuple[int, int]) -> float:
    """The share of populations whose interval holds the expected tau."""
    rng = np.random.default_rng(5)
    found = [tau(*population(kind, rng, configurations=design[0], networks=design[1])) for _ in range(trials)]
    expected = float(np.mean([each.value for each in found]))
    return float(np.mean([expected in each.interval for each in found]))


@pytest.mark.parametrize("kind", ["moderate", "confounded", "nearly perfect"])
def test_intervals_cover_as_often_as_they_say(kind: str, population: Callable[..., Any]) -> None:
    for tau, design in ((marginal_tau, (3, 4)), (marginal_tau, (5, 5)), (within_tau, (5, 5))):
        assert covers(tau, kind, population, trials=TRIALS, design=design) >= AT_LEAST


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("design", [(3, 4), (5, 4), (3, 5), (5, 5), (4, 10)])
@pytest.mark.parametrize(
    "kind",
    [
        "moderate", "independent", "confounded", "strong", "nearly perfect",
        "negative", "heavy tails", "unequal spread", "ties",
    ],
)  # fmt: skip
def test_intervals_cover_93_percent_of_2000_trials(
    kind: str, design: tuple[int, int], population: Callable[..., Any]
) -> None:
    assert covers(marginal_tau, kind, population, trials=2000, design=design) >= 0.93
    if design[1] >= 5:
        assert covers(within_tau, kind, population, trials=2000, design=design) >= 0.93


def test_intervals_of_differences_cover() -> None:
    rng, differences = np.random.default_rng(6), []
    cells = np.repeat(np.arange(5), 5)
    for _ in range(TRIALS):
        y = 0.8 * cells + rng.standard_normal(25)
        one, other = y + 0.3 * rng.standard_normal(25), y + 2 * rng.standard_normal(25)
        differences.append(paired_difference(one, other, y, cells, within=True))
    expected = np.mean([each[0] for each in differences if each])
    assert np.mean([expected in each[1] for each in differences if each]) >= AT_LEAST


def test_units_are_left_out_as_a_whole() -> None:
    rng = np.random.default_rng(3)
    cells, units = np.repeat(np.arange(6), 3), np.repeat(np.arange(6), 3)
    half = rng.standard_normal((18, 18))
    kernel = half + half.T
    np.fill_diagonal(kernel, 0)
    inside = units[:, None] == units
    without = []
    for unit in range(6):
        kept = units != unit
        both = np.outer(kept, kept)
        without.append(kernel[both & inside].sum() * 6 / 5 + kernel[both & ~inside].sum() * 30 / 20)
    expected = 5 / 6 * float(((np.array(without) - np.mean(without)) ** 2).sum())
    single = jackknife_pairs([kernel.__getitem__], cells, units).single[0]
    assert float(single @ single) == pytest.approx(expected, rel=1e-12)


def random_grid(rng: np.random.Generator, configurations: int, networks: int) -> tuple[np.ndarray, ...]:
    """A measure, the gap and the cells, at configurations that are also drawn."""
    cells = np.repeat(np.arange(configurations), networks)
    effect, other = rng.standard_normal((2, configurations))
    gap = effect[cells] + rng.standard_normal(len(cells))
    return gap + 0.5 * other[cells] + rng.standard_normal(len(cells)), gap, cells


@pytest.mark.parametrize("networks", [1, 3])
def test_intervals_cover_where_configurations_are_drawn_again(networks: int) -> None:
    rng = np.random.default_rng(8)
    drawn = [random_grid(rng, 20, networks) for _ in range(TRIALS)]
    for tau in (marginal_tau, within_tau)[: 1 + (networks > 1)]:
        found = [tau(*each, each[2]) for each in drawn]
        expected = float(np.mean([each.value for each in found]))
        assert np.mean([expected in each.interval for each in found if each.interval]) >= AT_LEAST
    if networks > 1:  # networks drawn again at the same configurations vary less, on the mean over populations
        fixed, free = ([marginal_tau(*each, units).interval for each in drawn] for units in (None, drawn[0][2]))
        widths = [np.mean([each.high - each.low for each in found if each]) for found in (fixed, free)]
        assert widths[1] > widths[0]


@pytest.mark.parametrize("within", [False, True])
def test_intervals_cover_where_networks_of_a_seed_share_their_initialisation(within: bool) -> None:
    rng, tau = np.random.default_rng(9), within_tau if within else marginal_tau
    cells, origins = np.repeat(np.arange(3), 20), np.tile(np.arange(20), 3)
    found, naive = [], []
    for _ in range(TRIALS):
        start, other = rng.standard_normal((2, 20))
        gap = 0.3 * cells + start[origins] + 0.5 * rng.standard_normal(60)
        x = gap + other[origins] + 0.3 * rng.standard_normal(60)
        found.append(tau(x, gap, cells, origins))
        naive.append(tau(x, gap, cells))
    expected = float(np.mean([each.value for each in found]))
    cover, careless = (np.mean([expected in each.interval for each in which]) for which in (found, naive))
    assert cover >= AT_LEAST
    assert careless < 0.9


def test_too_few_units_are_no_sample() -> None:
    found = marginal_tau(np.arange(19), np.arange(19), np.arange(19), np.arange(19))
    assert (found.value, found.reason) == (1, "19 units drawn, an interval needs 20")
    with pytest.raises(ValueError, match="units has 2 values for 3 networks; give one per network"):
        marginal_tau([1, 2, 3], [1, 2, 3], [0, 0, 0], [0, 1])


def test_counted_kernels_of_tau_give_the_jackknife_of_their_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    for at_once in (1, 40, 2**16):
        monkeypatch.setattr(marginal_jackknife, "MAX_SUMS_AT_ONCE", at_once)
        for ties_x, ties_y in ((3, 1000), (1000, 3), (3, 3), (1000, 1000)):
            cells = rng.permutation(np.repeat(np.arange(6), [1, 2, 7, 3, 5, 4]))
            x, y = (rng.integers(0, ties, len(cells)).astype(float) for ties in (ties_x, ties_y))
            expected = jackknife_pairs([marginal_kernel(x, y)], cells)
            found = marginal_jackknife.jackknife_marginal(x, y, cells, kendall_tau(x, y) or 0.0)
            assert np.abs(found.single - expected.single).max() < 1e-13
            assert np.abs(found.excess - expected.excess).max() < 1e-13
            assert found.cells is cells
