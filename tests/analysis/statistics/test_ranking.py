"""Comparisons on the same networks, and ranks by the number of significantly better measures."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from sharpbench.analysis.statistics import (
    compare_measures,
    marginal_tau,
    paired_difference,
    rank_measures,
    shared_ranks,
    within_tau,
)

CELLS = np.repeat(np.arange(5), 8)


def drawn(seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    y = 0.8 * CELLS + rng.standard_normal(40)
    noise = {"best": 0.05, "equal": 0.05, "middling": 0.6, "bad": 30.0}
    return y, {name: y + scale * rng.standard_normal(40) for name, scale in noise.items()}


@pytest.mark.parametrize("within", [False, True])
def test_ranks_are_shared_where_the_interval_of_the_difference_holds_0(within: bool) -> None:
    y, measures = drawn()
    assert shared_ranks(list(measures.values()), y, CELLS, within=within) == (1, 1, 3, 4)
    for (name, one), (other_name, other) in itertools.permutations(measures.items(), 2):
        found = paired_difference(one, other, y, CELLS, within=within)
        assert found is not None
        assert found[0] in found[1]
        assert (0.0 in found[1]) == ({name, other_name} == {"best", "equal"})


def test_measures_of_different_ranks_need_not_be_told_apart_and_no_page_says_so() -> None:
    rng = np.random.default_rng(2)
    y = 0.8 * CELLS + rng.standard_normal(40)
    found = rank_measures([y + scale * rng.standard_normal(40) for scale in (0.5, 1.5, 3.0)], y, CELLS, within=False)
    assert found.ranks == (1, 1, 2)
    assert found.apart == {frozenset((0, 2))}  # the second and the third are not told apart
    root = Path(__file__).parents[3]
    pages = [root / "README.md", *(root / "docs").glob("*.md"), *(root / "leaderboard").glob("*.md")]
    pages += [path for path in (root / "sharpbench").rglob("*") if path.suffix in {".py", ".jinja"}]
    claims = ("told apart share a rank", "told apart share it", "shared where measures cannot")
    texts = {path.name: " ".join(path.read_text(encoding="utf-8").split()) for path in pages}
    assert [name for name, text in texts.items() if any(claim in text for claim in claims)] == []


def test_ranks_do_not_depend_on_the_order_of_the_measures() -> None:
    y, measures = drawn(seed=1)
    names = list(measures)
    expected = dict(zip(names, shared_ranks([measures[name] for name in names], y, CELLS, within=True), strict=True))
    for order in itertools.permutations(names):
        assert shared_ranks([measures[name] for name in order], y, CELLS, within=True) == tuple(
            expected[name] for name in order
        )


def test_an_uncertain_row_is_not_ranked_above_a_higher_tau() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        y = 0.8 * CELLS + rng.standard_normal(40)
        measures = [y + scale * rng.standard_normal(40) for scale in (0.1, 0.5, 1, 2, 4, 8)]
        taus = [within_tau(measure, y, CELLS).value for measure in measures]
        ranks = shared_ranks(measures, y, CELLS, within=True)
        ordered = [rank for _, rank in sorted(zip(taus, ranks, strict=True), key=lambda pair: -(pair[0] or 0))]
        assert ordered == sorted(rank or 0 for rank in ranks)
        assert ordered[0] == 1


def test_the_difference_is_that_of_the_taus_and_changes_its_sign() -> None:
    y, measures = drawn(seed=2)
    one, other = measures["middling"], measures["bad"]
    found, reverse = (paired_difference(*pair, y, CELLS, within=False) for pair in ((one, other), (other, one)))
    assert found is not None
    assert reverse is not None
    assert found[0] == pytest.approx(
        (marginal_tau(one, y, CELLS).value or 0) - (marginal_tau(other, y, CELLS).value or 0)
    )
    assert (reverse[1].low, reverse[1].high) == (pytest.approx(-found[1].high), pytest.approx(-found[1].low))


def test_pairing_is_narrower_than_two_intervals() -> None:
    y, measures = drawn(seed=3)
    one = measures["middling"]
    other = one + 0.05 * np.random.default_rng(9).standard_normal(40)
    found = paired_difference(one, other, y, CELLS, within=False)
    alone = marginal_tau(one, y, CELLS).interval
    assert found is not None
    assert alone is not None
    assert found[1].high - found[1].low < 0.5 * (alone.high - alone.low)


def test_the_same_order_differs_by_nothing() -> None:
    y, measures = drawn()
    found = paired_difference(measures["bad"], np.exp(measures["bad"] / 100), y, CELLS, within=True)
    assert found is not None
    assert (found[0], found[1].low, found[1].high) == (0, 0, 0)


def test_a_measure_without_an_interval_has_no_rank_and_takes_none() -> None:
    y, measures = drawn()
    constant = np.ones(40)
    assert shared_ranks([constant, measures["bad"], measures["best"]], y, CELLS, within=False) == (None, 2, 1)
    assert paired_difference(constant, measures["bad"], y, CELLS, within=False) is None
    assert shared_ranks([measures["best"]], y, np.arange(40), within=True) == (None,)
    assert shared_ranks([], y, CELLS, within=True) == ()


def test_comparisons_say_which_is_better_and_their_p_agrees_with_their_interval() -> None:
    y, measures = drawn(seed=4)
    found = compare_measures(list(measures.values()), y, CELLS, within=True)
    assert [(each.one, each.other) for each in found] == list(itertools.combinations(range(4), 2))
    for each in found:
        assert (each.p < 0.05) == (0.0 not in each.interval)
        assert each.adjusted >= each.p
    expected = false_discovery_control([each.p for each in found], method="by")
    assert [each.adjusted for each in found] == pytest.approx(list(expected))
    best = next(each for each in found if (each.one, each.other) == (0, 3))
    assert (best.better, best.adjusted < 0.05) == (0, True)
    assert next(each for each in found if (each.one, each.other) == (0, 1)).better is None
    assert compare_measures([measures["bad"]], y, CELLS, within=True) == ()


def test_few_discoveries_are_false_among_equal_measures() -> None:
    rng, by_chance, found = np.random.default_rng(8), [], []
    cells = np.repeat(np.arange(5), 5)
    for _ in range(60):
        y = 0.8 * cells + rng.standard_normal(25)
        shared = rng.standard_normal(25)
        equal = [y + 1.2 * shared + 1.6 * rng.standard_normal(25) for _ in range(8)]
        each = compare_measures(equal, y, cells, within=False)
        found.append(any(one.better is not None for one in each))
        by_chance.append(any(one.p < 0.05 for one in each))
    assert np.mean(by_chance) > 0.25  # what is controlled is there
    assert np.mean(found) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize(("configurations", "good"), [(3, 0), (5, 0), (5, 3)])
def test_false_discoveries_stay_below_their_rate(configurations: int, good: int, within: bool) -> None:
    rng, shares = np.random.default_rng(9), []
    cells = np.repeat(np.arange(configurations), 5)
    for _ in range(600):
        y = 0.8 * cells + rng.standard_normal(len(cells))
        shared = rng.standard_normal(len(cells))
        noise = [0.3 if number < good else 2.0 for number in range(10)]
        rows = [y + scale * (0.6 * shared + 0.8 * rng.standard_normal(len(cells))) for scale in noise]
        made = [each for each in compare_measures(rows, y, cells, within=within) if each.better is not None]
        shares.append(sum(noise[each.one] == noise[each.other] for each in made) / max(1, len(made)))
    assert np.mean(shares) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 600)
