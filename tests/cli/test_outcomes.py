"""`run --outcomes`: a board for each outcome, in its folder and on the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharpbench.analysis.headline import score_headline
from sharpbench.analysis.population import group_populations
from sharpbench.cli.boards import chosen_outcomes, stated_outcomes, write_outcomes
from sharpbench.cli.status import merge
from sharpbench.report.format import OutcomeLabel
from sharpbench.report.outcome_table import outcome_page
from sharpbench.report.scored_boards import ScoredBoards
from sharpbench.runner.plan import plan
from sharpbench.runner.run import RunOptions, plan_run
from tests.analysis.test_headline import records
from tests.synthetic import make

COHORT = "label-noise[ratios=2,seeds=1,train_size=8]"


def test_each_outcome_has_its_board_in_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        make(seed=seed, value=float(seed), truth={"gap": seed / 10}, outcomes={"quantised-4": -seed / 10})
        for seed in range(8)
    ]
    taus = {}
    write_outcomes(found, tmp_path, ["gap", "quantised-4"], full=False)
    for folder in (tmp_path, tmp_path / "quantised-4"):
        (row,) = [row for row in json.loads((folder / "leaderboard.json").read_text()) if row["label"] == "good"]
        taus[row["outcome"]] = row["judgement"]["marginal"]["value"]
    assert taus == {"gap": 1.0, "quantised-4": -1.0}
    printed = capsys.readouterr().out.splitlines()
    assert "mlp on digits" in printed
    assert "mlp on digits, judged by quantised-4" in printed
    page = (tmp_path / "quantised-4" / "LEADERBOARD.md").read_text()
    assert "by their quantised-4 (test accuracy lost by rounding the weights to 4 bits)." in page
    assert (
        "by their generalization gap (training accuracy - test accuracy)." in (tmp_path / "LEADERBOARD.md").read_text()
    )
    (line,) = [line for line in (tmp_path / "OUTCOMES.md").read_text().splitlines() if line.startswith("| good")]
    assert [cell.strip() for cell in line.split("|")[1:-1]] == ["good", "1.00*", "-1.00*"]
    figure = (tmp_path / "quantised-4" / "plots" / "overview.svg").read_text()
    assert "generalization gap" not in figure
    names = {path.name for path in (tmp_path / "quantised-4" / "plots").iterdir()}
    assert names == {"overview.svg", "overview.png"}
    assert len(list((tmp_path / "plots").iterdir())) > 2


def test_a_measure_without_a_value_on_some_network_is_partial_in_the_table_of_outcomes() -> None:
    found = [
        make(measure=name, seed=seed, value=float(seed), truth={"gap": seed / 20}, outcomes={"forgetting": seed / 20})
        for name, seeds in (("whole", 20), ("part", 12))
        for seed in range(seeds)
    ]
    boards = [ScoredBoards.from_records(found, OutcomeLabel(name, "")) for name in ("gap", "forgetting")]
    rows = [[cell.strip() for cell in line.split("|")] for line in outcome_page(boards).splitlines()]
    shown = {row[1]: row[2:4] for row in rows if len(row) > 3}
    assert shown["part (partial)"] == shown["whole"] == ["1.00*", "1.00*"]


@pytest.mark.usefixtures("undrawn")
def test_headline_scores_are_written_where_a_population_enters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, entering = tmp_path / "headline.json", [*records("a"), *records("b", outcomes=())]
    write_outcomes(entering, tmp_path, ["gap"], full=False)
    assert f"headline scores: {path}" in capsys.readouterr().out
    rows = {row["name"]: row for row in json.loads(path.read_text())}
    populations = group_populations(entering)
    expected = score_headline(populations, [each.model for each in populations])
    assert {name: (row["score"], row["rank"]) for name, row in rows.items()} == {
        each.name: (each.tau.value, each.rank) for each in expected.scores
    }
    assert rows["good"]["populations"] == ["a on digits", "b on digits"]
    (psi,) = [part["psi"] for part in rows["good"]["parts"] if part["outcome"] == "forgetting"]
    assert psi == expected.scores[[each.name for each in expected.scores].index("good")].parts[0, "forgetting"].value
    write_outcomes(records("a", noisy=True), tmp_path, ["gap"], full=False)
    assert not path.exists(), "label noise varies"


@pytest.mark.usefixtures("undrawn")
def test_merged_records_have_a_board_for_each_outcome_that_they_state(tmp_path: Path) -> None:
    for part in range(2):
        found = [
            make(seed=seed, value=float(seed), truth={"gap": seed / 10}, outcomes={"forgetting": -seed / 10})
            for seed in range(part, 8, 2)
        ]
        (tmp_path / str(part)).mkdir()
        (tmp_path / str(part) / "records.jsonl").write_text("".join(each.to_json() + "\n" for each in found))
    assert merge([tmp_path / "0", tmp_path / "1"], output=tmp_path / "all") == 0
    (row,) = [
        row for row in json.loads((tmp_path / "all/forgetting/leaderboard.json").read_text()) if row["label"] == "good"
    ]
    assert row["judgement"]["marginal"]["value"] == -1.0
    assert "forgetting" in (tmp_path / "all" / "OUTCOMES.md").read_text()
    assert stated_outcomes([make()]) == ["gap"]


def test_the_boards_of_a_run_are_those_that_were_named() -> None:
    for given, first in (("gap", ["gap"]), ("quantised-4,loss-gap", ["loss-gap", "quantised-4"])):
        cells = plan("parameter-norm", "small-mlp", cohort=COHORT, outcomes=given)
        assert chosen_outcomes(given, plan_run(cells, RunOptions())) == first
    cells = plan("parameter-norm", "small-mlp", cohort=COHORT, outcomes="all")
    every = chosen_outcomes("all", plan_run(cells, RunOptions()))
    assert every[:3] == ["gap", "loss-gap", "calibration"]
    assert "shifted-blur" in every
    assert "shifted-shear" not in every
