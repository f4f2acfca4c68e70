"""Scores from records: which measures enter, which networks are excluded, which rows are ranked, what the costs are."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from sharpbench.analysis import scores
from sharpbench.analysis.costs import Failure, format_environment, summarize_exactness
from sharpbench.analysis.scores import Score, score_records
from sharpbench.analysis.statistics import kendall_tau
from sharpbench.analysis.statistics.conditions import Condition
from sharpbench.core.record import Record
from tests.synthetic import cohort

Make = Callable[..., Record]
MakeMany = Callable[..., list[Record]]


@pytest.fixture(scope="module")
def usual() -> tuple[Score, ...]:
    """The scores of the usual records."""
    return score_records(cohort())


def blas_threads() -> set[int]:
    """The numbers of threads of the libraries of this process."""
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def only(scores: tuple[Score, ...], label: str, model: str = "mlp") -> Score:
    (found,) = (row for row in scores if (row.label, row.model) == (label, model))
    return found


def test_a_row_says_how_well_a_measure_orders_the_networks(records: MakeMany, usual: tuple[Score, ...]) -> None:
    rows = records()
    found = only(usual, "confounded")
    mine = [row for row in rows if row.label == "confounded"]
    assert found.marginal.value == kendall_tau(
        [row.value or 0 for row in mine], [float(row.truth["gap"] or 0) for row in mine]
    )
    assert (found.ok, found.total, found.networks, found.excluded, found.complete) == (25, 25, 25, 0, True)
    assert found.within.cells == 5
    assert found.within.interval is not None
    assert found.converged == 1


def test_the_within_cell_tau_ranks_and_a_confounded_measure_falls_behind(usual: tuple[Score, ...]) -> None:
    good, confounded = only(usual, "good"), only(usual, "confounded")
    assert good.ranked_by == "within"
    assert (good.rank, confounded.rank) == (1, 2)
    assert confounded.marginal.value is not None
    assert confounded.marginal.value > 0.85


def test_cells_too_small_for_an_interval_are_ranked_by_the_marginal_tau(records: MakeMany) -> None:
    found = only(score_records(records(seeds=4)), "good")
    assert (found.ranked_by, found.rank) == ("marginal", 1)
    assert found.within.interval is None
    assert found.within.reason == "the smallest cell holds 4 networks, an interval needs 5"
    unknown = only(score_records(records(seeds=2)), "good")
    assert (unknown.rank, unknown.marginal.interval) == (None, None)


def test_a_network_enters_once_with_its_latest_success(records: MakeMany, usual: tuple[Score, ...]) -> None:
    rows = records()
    failed = [replace(row, status="failed", value=None, reason="out of luck") for row in rows]
    assert score_records([*failed, *rows]) == usual
    assert score_records([*rows, *failed]) == usual
    assert score_records([*rows, *rows]) == usual


def test_the_latest_success_is_the_one_of_the_latest_time_in_whatever_order(records: MakeMany) -> None:
    """As where folders of two versions of a measure are merged: their cells have different keys."""
    older = [replace(row, value=-float(row.value or 0.0), time="2026-11-01T00:00:00+00:00") for row in records()]
    newer = [replace(row, time="2026-11-02T00:00:00+00:00") for row in records()]
    late = [replace(row, status="failed", value=None, reason="x", time="2026-11-03T00:00:00+00:00") for row in older]
    expected = only(score_records(newer), "good").marginal
    for given in ([*older, *newer], [*newer, *older], [*late, *newer, *older]):
        assert only(score_records(given), "good").marginal == expected


def test_the_order_of_records_does_not_matter(records: MakeMany) -> None:
    rows = [*records(), *records(model="lenet", seeds=3)]
    shuffled = random.Random(0).sample(rows, len(rows))
    assert score_records(shuffled) == score_records(rows)
    assert [row.model for row in score_records(rows)] == ["lenet"] * 7 + ["mlp"] * 7


def test_the_gate_excludes_what_is_not_fitted_and_says_how_many(records: MakeMany, usual: tuple[Score, ...]) -> None:
    rows = records()
    expected = only(usual, "good")
    late = [
        replace(row, recipe={**row.recipe, "seed": 99}, truth={**row.truth, **change}, value=1e9)
        for row, change in zip(rows[:9:3], ({"fitted": False}, {"gap": None}, {"fitted": None}), strict=True)
    ]
    late = [replace(row, recipe={**row.recipe, "seed": 90 + index}) for index, row in enumerate(late)]
    found = only(score_records([*rows, *late]), "good")
    assert found.excluded == 3
    assert found.total == 28
    assert (found.networks, found.marginal) == (25, expected.marginal)
    assert found.complete
    everything = [replace(row, truth={**row.truth, "fitted": False}) for row in rows]
    none = only(score_records(everything), "good")
    assert (none.networks, none.excluded, none.rank, none.marginal.value) == (0, 25, None, None)
    assert none.marginal.reason == "0 networks, tau needs 2"


def test_partial_rows_stand_below_unranked_with_their_reasons(records: MakeMany) -> None:
    rows = [
        replace(row, status="skipped", value=None, reason="no ReLU")
        if row.label == "good" and row.recipe["label_noise"] == 1
        else row
        for row in records()
    ]
    rows[0] = replace(rows[0], status="oom", value=None, reason=None)
    scores = score_records(rows)
    found = only(scores, "good")
    assert scores[-1] is found
    assert (found.partial, found.rank, found.ok, found.total) == (True, None, 19, 25)
    assert found.failures == (Failure("skipped", "no ReLU", 5), Failure("oom", "no reason given", 1))
    assert only(scores, "confounded").rank == 1


def test_a_measure_that_was_not_run_everywhere_is_partial(records: MakeMany) -> None:
    rows = [row for row in records() if row.label != "good" or row.recipe["seed"] != 4]
    found = only(score_records(rows), "good")
    assert (found.partial, found.ok, found.total) == (True, 20, 25)


def test_baselines_are_there_unranked_from_the_covariates(records: MakeMany, usual: tuple[Score, ...]) -> None:
    rows, scores = records(), usual
    assert [row.label for row in scores if row.kind == "baseline"] == [
        "label noise",
        "training loss",
        "parameter norm",
        "random",
    ]
    assert all(row.rank is None and not row.partial for row in scores if row.kind == "baseline")
    noise = only(scores, "label noise")
    assert noise.marginal.value is not None
    assert noise.marginal.value > 0.85
    assert noise.within.value is None
    assert (
        only(score_records(rows, seed=0), "random")
        == only(scores, "random")
        != only(score_records(rows, seed=1), "random")
    )
    missing = [replace(row, truth={**row.truth, "parameter_norm": None}) for row in rows]
    assert only(score_records(missing), "parameter norm").marginal.reason == "0 networks, tau needs 2"


def test_the_random_baseline_of_a_model_does_not_depend_on_the_others(
    records: MakeMany, usual: tuple[Score, ...]
) -> None:
    rows = records()
    assert only(usual, "random") == only(score_records([*records(model="lenet"), *rows]), "random")


def test_costs_are_medians_and_seconds_stay_with_their_environment(record: Make) -> None:
    rows = [
        record(
            ratio=0.1 * index,
            value=float(index),
            seconds=second,
            gradients=gradient,
            peak_bytes=peak,
            environment=place,
        )
        for index, (second, gradient, peak, place) in enumerate(
            [(1.0, 2.0, 10, {"processor": "P"}), (3.0, 3.0, 30, {"processor": "P"}), (9.0, 7.0, 20, {"processor": "Q"})]
        )
    ]
    found = only(score_records([*rows, record(ratio=0.9)]), "good")
    assert [(each.environment, each.seconds, each.networks) for each in found.timings] == [
        ("processor P", 2.0, 2),
        ("processor Q", 9.0, 1),
    ]
    assert (found.gradients, found.peak_bytes) == (3.0, 20.0)


def test_a_cell_that_was_divided_gives_neither_time_nor_peak(record: Make) -> None:
    whole = record(ratio=0.0, seconds=1.0, gradients=2.0, peak_bytes=10, environment={"processor": "P"})
    part = replace(record(ratio=0.1, seconds=0.5, gradients=1.0, peak_bytes=4), pieces=2)
    found = only(score_records([whole, part, record(ratio=0.9)]), "good")
    assert (found.gradients, found.peak_bytes, found.contended) == (2.0, 10.0, 1)
    busy = replace(record(ratio=0.1, seconds=9.0, gradients=9.0, peak_bytes=30), contended=True)
    assert only(score_records([whole, busy, record(ratio=0.9)]), "good").peak_bytes == 20.0


def test_times_next_to_other_work_count_only_where_there_are_no_others(record: Make) -> None:
    quiet = record(ratio=0.0, seconds=1.0, gradients=2.0, environment={"processor": "P"})
    busy = [
        replace(record(ratio=ratio, seconds=seconds, gradients=seconds, environment={"processor": "P"}), contended=True)
        for ratio, seconds in ((0.1, 8.0), (0.2, 10.0))
    ]
    found = only(score_records([*busy, record(ratio=0.9)]), "good")
    assert [(each.seconds, each.networks, each.contended) for each in found.timings] == [(9.0, 2, True)]
    assert (found.gradients, found.contended, found.only_contended) == (9.0, 2, True)
    mixed = only(score_records([quiet, *busy]), "good")
    assert [(each.seconds, each.networks, each.contended) for each in mixed.timings] == [(1.0, 1, False)]
    assert (mixed.gradients, mixed.contended, mixed.only_contended) == (2.0, 2, False)


def test_errors_are_relative_to_the_oracle_and_carry_its_mark(record: Make) -> None:
    rows = [
        record(ratio=0.0, value=1.1, exact=1.0, oracle="definition"),
        record(ratio=0.1, value=2.0, exact=2.0, oracle="float64 engine"),
        record(ratio=0.2, value=-3.0, exact=-2.0, oracle="definition"),
        record(ratio=0.3),
    ]
    found = only(score_records(rows), "good").exactness
    assert found is not None
    assert (found.largest, found.median, found.networks) == (0.5, pytest.approx(0.1), 3)
    assert found.oracle == "definition, float64 engine"
    of_zero = [
        summarize_exactness([record(value=value, exact=0.0, oracle="definition")]) for value in (0.0, 1e-9, -5.0)
    ]
    assert [each.largest for each in of_zero if each is not None] == [0.0, 1.0, 1.0]


def test_networks_trained_on_unequal_numbers_of_examples_and_measured_on_all_of_them_are_one_row(record: Make) -> None:
    def sized(size: int, seed: int, examples: int) -> Record:
        data = {"sha256": "ab" * 32, "examples": examples}
        return record(seed=seed, recipe={"train_size": size}, data=data, truth={"gap": 0.1 * seed})

    own = [sized(size, seed, size) for size in (128, 512) for seed in range(4)]
    (found,) = [row for row in score_records(own) if row.kind == "measure"]
    assert (found.setting, found.total, found.complete) == ("", 8, True)
    some = [sized(512, seed, 128) for seed in range(4)]
    rows = [row for row in score_records([*own, *some]) if row.kind == "measure"]
    assert sorted((row.setting, row.ok) for row in rows) == [("128 examples", 4), ("all examples", 8)]


def test_networks_measured_on_at_most_a_number_of_examples_are_one_row_also_where_that_is_all(record: Make) -> None:
    def sized(size: int, seed: int, examples: int) -> Record:
        data = {"sha256": "ab" * 32, "examples": examples}
        return record(seed=seed, recipe={"train_size": size}, data=data, truth={"gap": 0.1 * seed})

    at_most = [sized(size, seed, min(size, 128)) for size in (64, 128, 512) for seed in range(4)]
    (found,) = [row for row in score_records(at_most) if row.kind == "measure"]
    assert (found.setting, found.total, found.complete) == ("", 12, True)
    whole = [replace(sized(size, seed, size), label="cheap") for size in (64, 128, 512) for seed in range(4)]
    rows = [row for row in score_records(at_most + whole) if row.kind == "measure"]
    assert sorted((row.label, row.setting, row.total, row.complete) for row in rows) == [
        ("cheap", "all examples", 12, True),
        ("good", "128 examples", 12, True),
    ], "another measure on all examples does not divide the row"


def test_rows_of_one_label_in_two_settings_are_two_rows(record: Make) -> None:
    rows = [
        record(ratio=0.1 * index, value=float(index), dtype=dtype)
        for index in range(4)
        for dtype in ("float32", "float64")
    ]
    found = [row.name for row in score_records(rows) if row.kind == "measure"]
    assert found == ["good (float32)", "good (float64)"]


def test_equal_recipes_are_one_network_however_they_are_written(record: Make) -> None:
    rows = [record("good", ratio=0.0), record("useless", ratio=0)]
    assert only(score_records(rows), "good").total == 1


def test_rows_are_the_same_in_several_processes_and_share_what_does_not_depend_on_the_measure(
    records: MakeMany, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Condition] = []
    start = Condition.__init__
    monkeypatch.setattr(Condition, "__init__", lambda self, *arguments: made.append(self) or start(self, *arguments))
    expected = score_records(records())
    assert len(expected) == 7
    assert [each.given for each in made] == [(), ("label_noise",)]  # for all seven rows
    monkeypatch.setattr("sharpbench.analysis.scores.MIN_NETWORKS_OF_WORKERS", 1)
    monkeypatch.setattr("sharpbench.analysis.scores.count_workers", lambda: 3)
    assert score_records(records()) == expected
    assert len(made) == 4


def test_scores_do_not_depend_on_the_threads_of_blas_which_stay_as_they_were(
    records: MakeMany, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[str, set[int]]] = []

    def note(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*arguments: object) -> object:
            found.append((name, blas_threads()))
            return function(*arguments)

        return noting

    for name in ("_score_measure", "rank_rows"):
        monkeypatch.setattr(scores, name, note(name, getattr(scores, name)))
    with threadpool_limits(limits=3, user_api="blas"):
        before = blas_threads()
        score_records(records())
        assert blas_threads() == before
    assert found == [("_score_measure", {1})] * 3 + [("rank_rows", {1})]


def test_a_row_that_fails_in_another_process_raises_as_in_this_one(
    records: MakeMany, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FloatingPointError("no value")

    monkeypatch.setattr("sharpbench.analysis.scores._score_baseline", fail)
    monkeypatch.setattr("sharpbench.analysis.scores.MIN_NETWORKS_OF_WORKERS", 1)
    monkeypatch.setattr("sharpbench.analysis.scores.count_workers", lambda: 2)
    with pytest.raises(FloatingPointError, match="no value") as raised:
        score_records(records())
    assert raised.traceback[-1].name == "fail"


def test_nothing_gives_nothing(record: Make) -> None:
    assert score_records([]) == ()
    bare: dict[str, Any] = {"status": "failed", "value": None, "reason": "no weights"}
    found = only(score_records([replace(record(**bare), recipe={}, truth={})]), "good", "None")
    assert (found.ok, found.total, found.excluded, found.complete, found.converged) == (0, 1, 1, False, None)


def test_an_environment_is_one_line() -> None:
    assert (
        format_environment({"torch": "2.13", "cuda": None, "tf32": False, "cores": 2})
        == "cores 2, tf32 false, torch 2.13"
    )
