"""The sentences of the verdict, for boards of one measure, of many, of partial ones and without a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from sharpbench.analysis.scores import Score, score_records
from sharpbench.analysis.statistics import Interval
from sharpbench.core.record import Record
from sharpbench.report.board_verdict import describe_verdict

MakeMany = Callable[..., list[Record]]


@pytest.fixture
def rows(records: MakeMany) -> list[Score]:
    return list(score_records(records()))


def ranked(row: Score, label: str, rank: int | None, low: float = 0.1, tau: float = 0.5) -> Score:
    found = replace(row.within, value=tau, interval=Interval(low, low + 0.8))
    marginal = replace(row.marginal, value=tau)
    correlations = replace(row.correlations, within=found, marginal=marginal)
    return replace(row, label=label, rank=rank, correlations=correlations, kind="measure")


def verdict(row: Score, ranks: Sequence[int | None], low: float = 0.1) -> str:
    return describe_verdict([ranked(row, f"m{place}", rank, low) for place, rank in enumerate(ranks)])


def test_the_first_rank_in_words(rows: list[Score]) -> None:
    row = rows[0]
    assert verdict(row, [1]) == "m0 is the only ranked measure."
    assert verdict(row, [1], low=-0.2) == "m0 is the only ranked measure, but its interval is not above 0."
    assert verdict(row, [1, 1]) == "m0 and m1 cannot be told apart by tau within cells."
    assert verdict(row, [1, 1], low=-0.5).endswith("by tau within cells, and no interval of theirs is above 0.")
    assert verdict(row, [1, 2]) == "Of 2 ranked measures m0 ranks first by tau within cells."
    assert verdict(row, [1, 2], low=-0.9).endswith("ranks first by tau within cells, but its interval is not above 0.")
    assert verdict(row, [1, 1, 3]) == "Of 3 ranked measures m0 and m1 share the first rank by tau within cells."
    assert verdict(row, [1, 1, 3], low=0.0).endswith(", and no interval of theirs is above 0.")
    assert verdict(row, [1] * 3000) == "No two of the 3000 ranked measures can be told apart by tau within cells."
    assert "m0, m1, m2, m3, m4, m5 and 2994 more share" in verdict(row, [1] * 3000 + [3001])


def test_measures_without_a_rank(rows: list[Score]) -> None:
    partial = [replace(ranked(rows[0], f"m{place}", None), complete=False) for place in range(2)]
    have = "2 measures have no value on some networks and no rank."
    assert describe_verdict(partial) == f"No measure is ranked. {have}"
    over_all = replace(rows[0], ranked_by="marginal")
    assert verdict(over_all, [None]) == "No measure is ranked, because no tau has an interval."


def test_a_board_without_tau_within_cells_does_not_deny_the_interval_of_tau(records: MakeMany) -> None:
    """The gap is the same within each cell: there is tau over all networks, with an interval, but none within cells."""
    found = [replace(row, truth={**row.truth, "gap": float(row.recipe["label_noise"])}) for row in records()]  # type: ignore[arg-type]
    scores = score_records(found)
    assert any(row.marginal.interval for row in scores if row.kind == "measure")
    assert "No measure is ranked, because no tau within cells has an interval." in describe_verdict(scores)


def test_a_gate_that_no_network_passes_is_the_reason_and_no_measure_is_partial(records: MakeMany) -> None:
    unfit = [replace(record, truth={**record.truth, "fitted": False}) for record in records()]
    scores = score_records(unfit)
    assert describe_verdict(scores) == "No measure is ranked, because no network passed the gate."
    assert not any(row.partial for row in scores)


def test_a_baseline_is_compared_with_the_ranked_measures_only(rows: list[Score]) -> None:
    baseline = replace(ranked(rows[0], "random", None, tau=0.6), kind="baseline")
    better = replace(ranked(rows[0], "part", None, tau=0.9), complete=False)
    measure = ranked(rows[0], "m", 1)
    said = "The baseline random has a tau over all networks of 0.60; no ranked measure has more."
    assert said in describe_verdict([measure, better, baseline])
    assert "baseline" not in describe_verdict([replace(better, complete=True, rank=1), baseline])
    no_tau = [
        replace(row, correlations=replace(row.correlations, marginal=replace(row.marginal, value=None)))
        for row in (measure, baseline)
    ]
    assert "baseline" not in describe_verdict(no_tau)
