"""Conditional mutual information on tables worked out by hand, against going through the pairs, and its null."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from math import log
from typing import Any

import numpy as np
import pytest

from sharpbench.analysis.statistics import Interval, conditional_information, marginal_tau, within_tau
from sharpbench.analysis.statistics.conditions import Condition
from sharpbench.analysis.statistics.inputs import combine_codes
from sharpbench.analysis.statistics.mutual_information import ConditionedPairs, Deals


def slow(x: Sequence[float], y: Sequence[float], axes: dict[str, Any], names: tuple[str, ...]) -> tuple[float, float]:
    """I(V_x; V_y | U_S) and H(V_y | U_S) pair by pair, in nats."""
    tables: dict[Any, Counter[tuple[float, float]]] = {}
    for i, j in permutations(range(len(x)), 2):
        if y[i] != y[j]:
            given = tuple((axes[name][i], axes[name][j]) for name in names)
            tables.setdefault(given, Counter())[float(np.sign(x[i] - x[j])), float(np.sign(y[i] - y[j]))] += 1
    total, shared, entropy = sum(table.total() for table in tables.values()), 0.0, 0.0
    for table in tables.values():
        mine, size = table.total() / total, table.total()
        of_x, of_y = Counter[float](), Counter[float]()
        for (v_x, v_y), count in table.items():
            of_x[v_x] += count
            of_y[v_y] += count
        for (v_x, v_y), count in table.items():
            shared += mine * count / size * log(count * size / (of_x[v_x] * of_y[v_y]))
        entropy -= mine * sum(count / size * log(count / size) for count in of_y.values())
    return shared, entropy


def share(condition: Condition, x: Any) -> float:
    """The share of a measure."""
    pairs = condition.compare(x)
    return float(condition.share(pairs.up.table, pairs.down.table))


def bits(p: float) -> float:
    """The entropy of a coin, in bits."""
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


def test_tables_worked_out_by_hand() -> None:
    # no condition: of 6 pairs the last is reversed -> 1 - H(1/6). Given u: both pairs inside are certain (one agrees,
    # one is reversed), those between have V_y = 1 always and no entropy -> 1. The least is the former.
    found = conditional_information([1, 2, 4, 3], [1, 2, 3, 4], {"u": [0, 0, 1, 1]})
    assert (found.value, found.given, found.direction) == (pytest.approx(1 - bits(1 / 6)), (), 1)
    # given u, of three pairs inside each group one is reversed -> 1 - H(1/3) = 0.08; without, of 15 pairs two.
    found = conditional_information([1, 3, 2, 4, 6, 5], [1, 2, 3, 4, 5, 6], {"u": [0, 0, 0, 1, 1, 1]})
    assert (found.value, found.given, found.direction) == (pytest.approx(1 - bits(1 / 3)), ("u",), 1)
    assert found.value == pytest.approx(0.0817, abs=1e-4)
    # Between the groups V_y = 1 in 3 of 4 pairs while V_x is certain: no information, but 4 H(1/4) bits of entropy,
    # next to 1 bit for each pair inside, which agree: 2 / (4 H(1/4) + 2) = 0.38. Without, 5 of 6 agree: 0.35.
    found = conditional_information([1, 2, 3, 4], [1, 3, 2, 4], {"u": [0, 0, 1, 1]})
    assert (found.value, found.given) == (pytest.approx(1 - bits(1 / 6)), ())
    given = Condition(np.array([1.0, 3, 2, 4]), ("u",), np.array([0, 0, 1, 1]))
    assert share(given, np.array([1.0, 2, 3, 4])) == pytest.approx(2 / (4 * bits(1 / 4) + 2))


@pytest.mark.parametrize("kind", ["moderate", "ties", "confounded", "negative"])
def test_it_is_what_going_through_the_pairs_gives(kind: str, grid: Callable[..., Any]) -> None:
    x, y, axes = grid(kind, np.random.default_rng(0), shape=(3, 2, 2), networks=3)
    kept = np.random.default_rng(1).permutation(len(x))[:29]
    x, y, axes = x[kept], y[kept], {name: [values[each] for each in kept] for name, values in axes.items()}
    expected = {}
    for size in range(3):
        for names in combinations(axes, size):
            shared, entropy = slow(x, y, axes, names)
            expected[names] = shared / entropy
    found = conditional_information(x, y, axes, permutations=0)
    assert found.value == pytest.approx(min(expected.values()), abs=1e-12)
    assert expected[found.given] == pytest.approx(min(expected.values()), abs=1e-12)
    assert found.null is None
    assert found.direction == (-1 if kind == "negative" else found.direction)


@pytest.mark.parametrize("sizes", [(3,), (64, 1, 65), (5, 200, 7)])
def test_tables_are_those_of_counting_pair_by_pair(sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(12)
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    tied, y = rng.integers(0, 40, size=(2, len(group))).astype(float)
    untied = rng.random(len(group))
    larger = y[:, None] > y
    for x in (tied, untied):
        expected = [
            [[int((sign & larger)[np.ix_(group == one, group == other)].sum()) for other in range(len(sizes))]
             for one in range(len(sizes))]
            for sign in (x[:, None] > x, x[:, None] < x)
        ]  # fmt: skip
        for words in (2**15, 40):  # the second: some networks at a time
            monkeypatch.setattr("sharpbench.analysis.statistics.pair_counts.MAX_WORDS_AT_ONCE", words)
            found = Condition(y, (), group).compare(x)
            assert [each.table.tolist() for each in (found.up, found.down)] == expected
    monkeypatch.delattr(np, "bitwise_count", raising=False)  # numpy 1
    found = Condition(y, (), group).compare(x)
    assert [each.table.tolist() for each in (found.up, found.down)] == expected


@pytest.mark.parametrize("together", ["one by one", "within groups", "across groups"])
@pytest.mark.parametrize("kind", ["moderate", "ties"])
def test_networks_left_out_are_left_out(
    kind: str, together: str, grid: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sharpbench.analysis.statistics.conditions.MAX_TABLES_AT_ONCE", 9 * 4
    )  # four units of 3 x 3 tables at a time
    x, y, axes = grid(kind, np.random.default_rng(2), shape=(3, 2), networks=4)
    group = combine_codes([np.array(axes["a0"])], len(x))
    units = np.arange(24) if together == "one by one" else np.repeat(np.arange(6), 4)
    if together == "across groups":
        units = np.roll(units, 2)
    shuffled = np.random.default_rng(3).permutation(24)
    x, y, group, units = x[shuffled], y[shuffled], group[shuffled], units[shuffled]
    found = Condition(y, (), group).compare(x).without(units)
    for unit in np.unique(units):
        kept = units != unit
        rest = Condition(y[kept], (), np.unique(group[kept], return_inverse=True)[1])
        assert found[unit] == pytest.approx(share(rest, x[kept]), abs=1e-12)


def test_a_confounder_is_seen_through(population: Callable[..., Any]) -> None:
    x, y, cells = population("confounded", np.random.default_rng(3), configurations=8, networks=6)
    marginal, within = marginal_tau(x, y, cells), within_tau(x, y, cells)
    assert (marginal.value or 0) > 0.85
    assert within.interval is not None
    assert 0.0 in within.interval
    blind = conditional_information(x, y, {})
    assert (blind.value or 0) > 0.6
    assert blind.null is not None
    assert (blind.null.p, blind.by_chance) == (0.001, False)
    found = conditional_information(x, y, {"confounder": list(cells)})
    assert found.given == ("confounder",)
    assert found.value is not None
    assert found.null is not None
    assert found.null.given == ("confounder",)
    assert found.value == found.null.share < min(0.1, found.null.chance)
    assert found.null.p > 0.1
    assert found.by_chance
    knowing = conditional_information(y + 0.3 * (x - 5 * cells), y, {"confounder": list(cells)})
    assert knowing.value is not None
    assert knowing.null is not None
    assert knowing.null.share > 3 * knowing.null.chance
    assert knowing.null.p == 0.001


def test_the_null_deals_out_values_within_groups_alone() -> None:
    # two groups of two, values 0, 1 and 10, 11: whichever way they are dealt, the order between groups stays
    y, group = np.array([1.0, 2, 3, 4]), np.array([0, 0, 1, 1])
    condition = Condition(y, ("u",), group)
    deals = condition.deal(50, np.random.default_rng(0))
    assert deals is not None
    null = condition.null(np.array([0.0, 1, 10, 11]), deals)
    shares = {round(share(condition, np.array(each)), 9) for each in
              ([0.0, 1, 10, 11], [1.0, 0, 10, 11], [0.0, 1, 11, 10], [1.0, 0, 11, 10])}  # fmt: skip
    assert {round(float(value), 9) for value in null} == shares
    assert Condition(y, ("u",), np.arange(4)).deal(5, np.random.default_rng(0)) is None


@pytest.mark.parametrize("values", [10**9, 40, 3])
@pytest.mark.parametrize("sizes", [(1, 120, 79), (200,), (40,) * 5])
def test_the_null_is_the_share_of_the_values_dealt_out(
    sizes: tuple[int, ...], values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x, y = rng.integers(0, values, (2, 200)).astype(float)
    condition, order = Condition(y, (), group), np.argsort(group, kind="stable")
    deals = condition.deal(5, np.random.default_rng(1))
    assert deals is not None
    assert (group[order][deals] == group[order]).all()
    dealt = np.empty((5, 200))
    dealt[:, order] = x[order][deals]
    expected = [share(condition, each) for each in dealt]
    assert condition.null(x, deals) == pytest.approx(expected, abs=1e-12)
    for name, bound in (("DEALS_AT_ONCE", 2), ("MAX_PAIRS_AT_ONCE", 50), ("MAX_ENTRIES_AT_ONCE", 1), ("MAX_COUNT", 3)):
        monkeypatch.setattr(f"sharpbench.analysis.statistics.dealt_pairs.{name}", bound)
    assert Condition(y, (), group).null(x, deals) == pytest.approx(expected, abs=1e-12)


def test_pairs_are_compared_in_chunks_and_permutations_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of comparisons grows more slowly than that of the pairs; counted, not timed."""
    compared: list[int] = []
    greater = np.greater
    monkeypatch.setattr(np, "greater", lambda one, other: compared.append(len(one)) or greater(one, other))
    drawn: list[int] = []
    deal = Condition.deal
    monkeypatch.setattr(Condition, "deal", lambda self, many, rng: drawn.append(many) or deal(self, many, rng))
    rng, counts = np.random.default_rng(0), []
    for networks in (500, 4000):
        axes = {"a": list(rng.integers(0, 4, networks))}
        measures = rng.standard_normal((3, networks))
        pairs = ConditionedPairs(measures[0], axes, permutations=20)
        for x in measures[1:]:
            del compared[:]
            pairs.information(x)
        counts.append(sum(compared))
    assert counts[1] < 8**1.5 * counts[0]  # all pairs would be 8^2
    assert len(drawn) <= 2 * (2 + 2)  # screening at two sets, and at most all at both, for two measures


@pytest.mark.parametrize(("networks", "floor"), [(2000, 1 / 1000), (2001, 1 / 200)])
def test_large_tables_take_fewer_permutations(networks: int, floor: float) -> None:
    y = np.arange(networks, dtype=float)
    found = conditional_information(y, y, {}).null
    assert found is not None
    assert found.p == floor


def test_permutations_that_are_not_held_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.arange(6.0)
    conditions = [Condition(y, ("u",), np.array(group)) for group in ([0, 0, 0, 1, 1, 1], [0, 1, 0, 1, 0, 1])]
    held = Deals(conditions, 7, 0)
    expected = [held.of_condition(number).tolist() for number in (0, 1, 0)]
    monkeypatch.setattr("sharpbench.analysis.statistics.mutual_information.MAX_HELD_DEALS", 50)
    again = Deals(conditions, 7, 0)
    assert [again.of_condition(number).tolist() for number in (0, 1, 0)] == expected
    assert len(again._held) == 1


def test_p_is_even_where_nothing_is_related() -> None:
    rng, found = np.random.default_rng(4), []
    cells = np.repeat(np.arange(3), 6)
    for _ in range(100):
        x, y = rng.standard_normal((2, 18))
        found.append(
            conditional_information(3 * cells + x, 3 * cells + y, {"a": list(cells)}, permutations=99, seed=7).null
        )
    for level in (0.05, 0.2, 0.5):
        assert np.mean([each is not None and each.p <= level for each in found]) == pytest.approx(
            level, abs=3 * np.sqrt(level * (1 - level) / 100)
        )


def test_a_weak_confounder_is_no_information_although_the_least_share_is_beyond_chance() -> None:
    # most of the order comes from the confounder, but the small tables given it are biased upward: without any
    # condition the share is least, and there it is beyond chance
    rng, cells, elsewhere, false = np.random.default_rng(10), np.repeat(np.arange(5), 5), 0, 0
    for _ in range(60):
        x, y = rng.standard_normal((2, 25))
        found = conditional_information(0.5 * cells + x, 2 * cells + y, {"a": list(cells)}, permutations=199)
        assert found.null is not None
        elsewhere += found.given == () and found.null.given == ("a",)
        false += not found.by_chance
    assert elsewhere > 12
    assert false <= 3 + 2 * np.sqrt(60 * 0.05 * 0.95)


def test_equal_seeds_give_equal_nulls(grid: Callable[..., Any]) -> None:
    drawn = grid("moderate", np.random.default_rng(5), shape=(3, 2), networks=4)
    assert conditional_information(*drawn, seed=1) == conditional_information(*drawn, seed=1)
    assert conditional_information(*drawn, seed=1).null != conditional_information(*drawn, seed=2).null
    x, y, axes = drawn
    assert conditional_information(np.exp(x), y, axes) == conditional_information(x, y, axes)


def test_what_has_no_value_says_why() -> None:
    axes = {"a": [0, 0, 1, 1]}
    constant = conditional_information([1, 1, 1, 1], [1, 2, 3, 4], axes)
    assert (constant.value, constant.reason) == (None, "the measure is the same for all networks")
    assert conditional_information([1, 2], [3, 3], {}).reason == "the gap is the same for all networks"
    small = conditional_information([1, 2, 3, 4], [1, 2, 4, 3], axes)
    assert small.value is not None
    assert (small.interval, small.reason) == (None, "the smallest cell holds 2 networks, an interval needs 3")
    cells = np.repeat(np.arange(8), 3)
    three = conditional_information(np.arange(24), np.arange(24), {"a": list(cells)}, permutations=0)
    assert (three.interval, three.reason) == (None, "24 networks in 8 cells, an interval needs 32")
    assert conditional_information(np.arange(24), np.arange(24), {}, permutations=0).interval is not None


@pytest.mark.parametrize("kind", ["moderate", "strong", "confounded"])
def test_intervals_cover(kind: str, grid: Callable[..., Any]) -> None:
    rng = np.random.default_rng(6)
    found = [conditional_information(*grid(kind, rng, shape=(3, 2), networks=5), permutations=0) for _ in range(70)]
    expected = float(np.mean([each.value for each in found]))
    intervals = [each.interval or Interval(2.0, 2.0) for each in found]
    assert np.mean([expected in each for each in intervals]) >= 0.93 - 2 * 0.0305
    assert all(0 <= each.low <= each.high <= 1 for each in intervals)
