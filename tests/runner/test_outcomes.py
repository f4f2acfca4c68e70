"""Outcomes through a run: found once a network, in every record, added to older records, and judged by."""

from __future__ import annotations

from pathlib import Path

import pytest

import sharpbench
from sharpbench.analysis.population import group_populations
from sharpbench.analysis.scores import score_records
from sharpbench.core.record import Record
from sharpbench.core.records import RECORDS, CellEnd, iterate_records, read_cell_ends
from sharpbench.datasets import Digits
from sharpbench.runner.cell import Cell
from sharpbench.runner.cell_record import cell_record
from sharpbench.runner.run import RunOptions, plan_run
from tests.synthetic import make

COHORT = "label-noise[ratios=2,seeds=1,train_size=16,max_epochs=1]"


def cells(outcomes: str, measures: str = "parameter-norm,distance-from-initialisation") -> tuple[Cell, ...]:
    return sharpbench.plan(measures, "small-mlp", cohort=COHORT, timing=0, oracle=0, invariance=0, outcomes=outcomes)


def run(planned: tuple[Cell, ...], folder: Path) -> list[Record]:
    return list(sharpbench.run(planned, output=folder / "out", cache_dir=folder / "cache"))


def left(outcomes: str, folder: Path) -> tuple[Cell, ...]:
    return plan_run(cells(outcomes), RunOptions(output=folder / "out")).left


def test_records_state_the_outcomes_and_lack_only_those_that_are_new(tmp_path: Path) -> None:
    first = run(cells("gap"), tmp_path)
    assert [found.outcomes for found in first] == [{}] * 4
    assert left("gap,loss-gap", tmp_path) == ()  # records hold what determines them
    second = run(cells("gap,quantised-2,calibration"), tmp_path)
    assert [found.key for found in second] == [found.key for found in first]
    assert [found.value for found in second] == [found.value for found in first]
    assert {tuple(found.outcomes) for found in second} == {("quantised-2", "calibration")}
    assert len({(found.recipe["label_noise"], *found.outcomes.values()) for found in second}) == 2
    assert left("quantised-2,calibration", tmp_path) == ()
    lacking = left("forgetting", tmp_path)
    assert len(lacking) == 4
    assert all(cell.measured is not None and not cell.checks.names for cell in lacking)
    added = cell_record(lacking[0], Digits().load(None), None, {"forgetting": 0.5}).outcomes
    assert added == {**lacking[0].measured.outcomes, "forgetting": 0.5}  # type: ignore[union-attr]
    assert len(list((tmp_path / "cache" / "outcomes").iterdir())) == 2
    ends = read_cell_ends(tmp_path / "out" / RECORDS)
    assert {end.outcomes for end in ends.values()} == {frozenset({"quantised-2", "calibration"})}
    assert ends == {each.key: CellEnd.of_record(each) for each in iterate_records(tmp_path / "out" / RECORDS)}


def test_unknown_outcomes_are_refused_before_anything_is_trained() -> None:
    with pytest.raises(sharpbench.InvalidInput, match="no outcome 'prunned-50'; did you mean 'pruned-50'"):
        cells("prunned-50")
    with pytest.raises(sharpbench.InvalidInput, match=r"'shifted-shear' is not defined on these data"):
        cells("shifted-shear")


def population(outcome: str) -> list[Record]:
    """Ten networks whose quantised accuracy falls as the measure rises, while the gap rises with it."""
    return [
        make(
            seed=seed,
            value=float(seed),
            truth={"gap": seed / 10, "train_loss": 0.0, "test_loss": float(seed % 3)},
            outcomes={} if outcome == "older" else {"quantised-4": -seed / 10},
        )
        for seed in range(10)
    ]


def test_measures_are_judged_by_the_chosen_outcome() -> None:
    found = population("new")
    taus = {}
    for name in ("gap", "quantised-4", "loss-gap"):
        (whole,) = group_populations(found, name)
        assert whole.outcome == name
        taus[name] = score_records(found, outcome=name)[0]
    assert taus["gap"].marginal.value == 1.0
    assert taus["quantised-4"].marginal.value == -1.0
    assert (taus["gap"].outcome, taus["quantised-4"].outcome) == ("gap", "quantised-4")
    assert abs(taus["loss-gap"].marginal.value or 1.0) < 0.5
    assert "for the accuracy gap" in str(taus["quantised-4"].correlations.signs.reason)


def test_older_records_have_what_they_have() -> None:
    (whole,) = group_populations(population("older"), "quantised-4")
    assert whole.exclusions == {"quantised-4 unknown": 10}
    (judged,) = group_populations(population("older"), "loss-gap")
    assert sorted({network.outcome for network in judged.counted}) == [0.0, 1.0, 2.0]
    (both,) = group_populations([*population("new"), *population("older")], "quantised-4")
    assert len(both.counted) == 10
