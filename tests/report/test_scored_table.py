"""`sharpbench.score`: the board of a table is the board of `run`, by the same code; bad tables are refused in words."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sharpbench
from sharpbench.analysis.population import MeasuredPopulation, group_populations
from sharpbench.analysis.scores import Score, score_population
from sharpbench.errors import InvalidInput
from sharpbench.leaderboard.collection import find_record_files, read_collection
from sharpbench.report.scored_table import ScoredTable

RESULTS = Path(__file__).parents[2] / "leaderboard" / "results"
HOSTILE = "<img src=x>|[a](http://b)*_`\x1b[31m\n"


def networks(*, seeds: int = 5, drawn: int = 0) -> pd.DataFrame:
    """2 x 2 configurations x seeds: one measure that follows the gap, one that falls with it, one that is random."""
    rng = np.random.default_rng(drawn)
    rows = [
        {"lr": lr, "width": width, "seed": seed, "gap": 0.1 + lr + width / 1000 + 0.03 * rng.standard_normal()}
        for lr in (0.01, 0.1)
        for width in (20, 80)
        for seed in range(seeds)
    ]
    frame = pd.DataFrame(rows)
    noise = rng.standard_normal((3, len(frame)))
    frame["good"] = 10 * frame["gap"] + 0.05 * noise[0]
    frame["falling"] = -frame["gap"] + 0.01 * noise[1]
    frame["useless"] = noise[2]
    return frame


def scored(frame: pd.DataFrame, **changes: Any) -> ScoredTable:
    return sharpbench.score(frame, **{"by": ["lr", "width"], **changes})


def refused(frame: pd.DataFrame, **changes: Any) -> str:
    with pytest.raises(InvalidInput) as error:
        scored(frame, **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def as_table(population: MeasuredPopulation, path: Path) -> Path:
    """The networks of a population as a CSV file, with a column for each of its rows."""
    rows = [
        {**network.recipe, **network.truth, **{f"measure:{row.label}": row.value(network) for row in population.rows}}
        for network in population.networks
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    "collection", ["digits-label-noise", pytest.param("mnist-hyperparameters", marks=pytest.mark.slow)]
)
def test_published_records_as_a_table_give_the_published_board(collection: str, tmp_path: Path) -> None:
    path = find_record_files(RESULTS).get(collection)
    if path is None:
        pytest.skip("the published results are not here")
    for population in group_populations(read_collection(path).records)[:1]:  # the others differ in numbers only
        recipe = population.networks[0].recipe
        record = next(iter(population.rows[0].records.values()))
        options = sharpbench.TableOptions(
            test_examples=int(str(record.data["test_examples"])),
            design=population.design,
            model=population.model,
            dataset=population.dataset,
        )
        found = sharpbench.score(
            as_table(population, tmp_path / "mine.csv"),
            by=[name for name in recipe if name not in ("dataset", "seed")],
            measures=[f"measure:{row.label}" for row in population.rows],
            options=options,
        )
        expected = [row for row in score_population(population) if row.kind == "measure" or row.networks]
        assert len(expected) > 15
        assert [digits(row) for row in found.scores] == [digits(row) for row in expected]


def digits(row: Score) -> tuple[object, ...]:
    """Everything of a score that a table determines."""
    name = row.label.removeprefix("measure:")
    numbers = (row.ok, row.total, row.networks, row.excluded, row.exclusions, row.complete, row.ranked_by, row.rank)
    return (name, row.kind, numbers, row.correlations)


def test_small_tables_equal_the_definitions() -> None:
    frame = networks(seeds=3)
    found = {row.label: row for row in scored(frame, options=sharpbench.TableOptions(test_examples=10_000)).scores}
    for name in ("good", "falling", "useless"):
        x, y = frame[name].to_numpy(), frame["gap"].to_numpy()
        agree = np.sign(np.subtract.outer(x, x)) * np.sign(np.subtract.outer(y, y))
        pairs = ~np.eye(len(x), dtype=bool)
        cells = [frame.groupby(["lr", "width"]).ngroup() == cell for cell in range(4)]
        within = [agree[np.ix_(cell, cell)].sum() / (cell.sum() * (cell.sum() - 1)) for cell in cells]
        psis = []
        for axis, other in (("lr", "width"), ("width", "lr")):
            same = frame[other].to_numpy()[:, None] == frame[other].to_numpy()
            differ = frame[axis].to_numpy()[:, None] != frame[axis].to_numpy()
            blocks = [same & differ & (frame[other].to_numpy() == value)[:, None] for value in frame[other].unique()]
            psis.append(np.mean([agree[block].mean() for block in blocks]))
        row = found[name]
        assert row.marginal.value == pytest.approx(agree[pairs].mean(), abs=1e-12)
        assert row.within.value == pytest.approx(np.mean(within), abs=1e-12)
        assert row.correlations.granulated.overall.value == pytest.approx(np.mean(psis), abs=1e-12)
        assert row.marginal.interval is not None
        assert row.correlations.signs.environments == 4 - row.correlations.signs.left_out


def test_a_table_in_the_form_of_dziugaite_2020_gives_its_worst_sign_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code of docs/replay.md, on a small synthetic table, against going through the pairs of networks."""
    rng = np.random.default_rng(0)
    rows = [
        {"hp.dataset": dataset, "hp.lr": lr + 1e-6 * seed, "hp.model_depth": depth, "hp.batch_size": 32}
        | {"gen.gap": 0.1 + 3 * lr + 0.02 * depth + 0.02 * rng.standard_normal()}
        for dataset in ("cifar10", "svhn")
        for lr in (0.001, 0.01, 0.0316)
        for depth in (2, 4)
        for seed in range(6)
    ]
    frame = pd.DataFrame(rows)
    frame["complexity.good"] = frame["gen.gap"] + 0.02 * rng.standard_normal(len(frame))
    frame["complexity.depth"] = -frame["hp.model_depth"] + 0.1 * rng.standard_normal(len(frame))
    frame["is.converged"], frame["is.high_train_accuracy"] = True, np.arange(len(frame)) % 11 > 0
    frame.to_csv(tmp_path / "nin.cifar10_svhn.csv", index=False)
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "replay.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "nin.cifar10_svhn" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    assert "complexity.depth" in capsys.readouterr().out
    kept = frame[(frame["hp.dataset"] == "cifar10") & frame["is.high_train_accuracy"]]
    for row in names["found"].scores:
        if row.kind == "measure":
            errors = sign_errors(kept[row.label], kept["gen.gap"], kept[["hp.lr", "hp.model_depth"]].round(4), 10_000)
            assert row.correlations.signs.worst == pytest.approx(max(errors), abs=1e-12)
            assert row.correlations.signs.mean == pytest.approx(np.mean(errors), abs=1e-12)
            assert len(errors) >= 5


def sign_errors(measure: Any, gap: Any, by: pd.DataFrame, examples: int) -> list[float]:
    """The sign error of each pair of configurations that differ in one hyperparameter, as the paper defines it."""
    cells = {key: list(group.index) for key, group in by.groupby(list(by))}
    errors = []
    for one, other in combinations(cells, 2):
        if sum(a != b for a, b in zip(one, other, strict=True)) != 1:
            continue
        pairs = [(measure[i] - measure[j], gap[i] - gap[j]) for i in cells[one] for j in cells[other]]
        weights = [max(max(1 - 2 * np.exp(-examples * g**2 / 2), 0.0) ** 2 - 0.5, 0.0) for _, g in pairs]
        if sum(weights) ** 2 >= 12 * sum(weight**2 for weight in weights) > 0:
            wrong = [(1 - np.sign(x) * np.sign(g)) / 2 for x, g in pairs]
            errors.append(float(np.dot(weights, wrong) / sum(weights)))
    return errors


def test_a_difference_of_columns_is_an_outcome_and_direction_is_reversed() -> None:
    frame = networks()
    frame["train_accuracy"], frame["test_accuracy"] = 1.0, 1 - frame["gap"]
    plain = scored(frame, measures=["good", "falling"])
    made = scored(frame.drop(columns="gap"), outcome="train_accuracy - test_accuracy")
    assert made.boards.outcome.meaning == "train_accuracy - test_accuracy"
    assert {row.label for row in made.scores} == {"good", "falling", "useless", "random"}  # no accuracy is a measure
    turned = scored(frame, measures=["falling"], options=sharpbench.TableOptions(descending=["falling"]))
    (one,), other = [row for row in turned.scores if row.kind == "measure"], plain.scores
    assert one.label == "-falling"
    assert one.marginal.value == -next(row.marginal.value or 0 for row in other if row.label == "falling")
    assert [row.rank for row in plain.scores if row.kind == "measure"] == [1, 2]


@pytest.mark.parametrize("unit", [1.0, 100.0, 1e-9])
def test_equal_differences_of_columns_are_tied_in_any_unit(unit: float) -> None:
    train = [0.70 + 0.01 * row for row in range(16)]
    test = [round(each - 0.1, 2) for each in train]
    assert len({one - other for one, other in zip(train, test, strict=True)}) > 1
    columns = {"train": [unit * each for each in train], "test": [unit * each for each in test], "m": list(range(16))}
    with pytest.raises(InvalidInput, match=r"the outcome 'train - test' is [0-9e.-]+ for all networks"):
        sharpbench.score(pd.DataFrame(columns), outcome="train - test", measures=["m"])


def test_the_result_compares_renders_and_writes(tmp_path: Path) -> None:
    frame = networks().rename(columns={"useless": HOSTILE})
    found = scored(frame)
    board = found.board
    assert list(board["measure"][:2]) == ["good", HOSTILE]
    assert board["tau low"][0] < board["tau"][0] < board["tau high"][0]
    assert "share the first rank by tau within cells" in found.verdict
    assert "good ranks first" in scored(networks(seeds=10), measures=["good", "useless"]).verdict
    better = found.compare("good", "falling")
    assert better.better == "good"
    assert better.difference == pytest.approx(-found.compare("falling", "good").difference)
    assert "good is better" in str(better)
    assert found.compare("good", "random").one == "good"
    with pytest.raises(InvalidInput, match="no measure 'god' on this board; did you mean 'good'"):
        found.compare("god", "good")
    latex = found.to_latex()
    assert latex.count("\\\\\n") == 1 + len(found.to_frame())
    assert "[a](http://b)*\\_`" in latex
    assert "\x1b" not in latex
    html = found._repr_html_()
    assert html.startswith("<pre")
    assert "&lt;img src=x&gt;" in html
    found.write(tmp_path / "new" / "out")
    page = (tmp_path / "new" / "out" / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert "generalization gap (column gap)" in page
    for text in (html, page, str(found)):
        assert "<img" not in text or text == str(found)
        assert "\x1b" not in text
    assert "\\[a\\](" in page
    assert {path.name for path in (tmp_path / "new" / "out").iterdir()} == {
        "LEADERBOARD.md",
        "leaderboard.json",
        "plots",
    }
    assert "relative error" not in page.split("How to read")[0]  # no table of costs that are not known


def test_networks_that_did_not_fit_are_excluded_and_missing_values_are_not_ranked() -> None:
    frame = networks()
    frame["fitted"] = [False, False] + [True] * 18
    frame["diverged"] = [True] + [False] * 19
    frame.loc[0, ["gap", "good"]] = np.nan
    frame.loc[7, "useless"] = np.nan
    rows = {row.label: row for row in scored(frame).scores}
    assert (rows["good"].total, rows["good"].excluded, rows["good"].ok) == (20, 2, 19)
    assert rows["good"].exclusions == {"budget ended": 1, "diverged": 1}
    assert not rows["good"].partial
    assert rows["useless"].partial
    assert rows["useless"].failures[0].reason == "no value in the table"


def test_without_a_seed_rows_of_equal_hyperparameters_are_repetitions() -> None:
    frame = networks()
    expected = [digits(row) for row in scored(frame).scores]
    assert [digits(row) for row in scored(frame.drop(columns="seed")).scores] == expected
    renamed = frame.rename(columns={"seed": "repetition"})
    assert [
        digits(row) for row in scored(renamed, by=["lr", "width", "repetition"], seed="repetition").scores
    ] == expected


def test_configurations_drawn_at_random_are_the_unit_of_intervals() -> None:
    frame = networks(seeds=6).drop(columns="seed").assign(lr=range(24))
    (row, *_) = scored(frame, by=["lr"], options=sharpbench.TableOptions(design="random")).scores
    assert (row.correlations.drawn, row.ranked_by) == ("configurations", "marginal")
    assert row.marginal.interval is not None
    (row, *_) = scored(frame, by=["lr"]).scores
    assert row.marginal.reason == "the smallest cell holds 1 network, an interval needs 3"


def test_what_is_refused() -> None:
    frame = networks()
    assert "no column 'lrr'; did you mean 'lr'?" in refused(frame, by=["lrr"])
    assert "no column 'gapp'; did you mean 'gap'?" in refused(frame, outcome="gapp")
    assert "has no column 'gap'; name the outcome" in refused(frame.drop(columns="gap"))
    assert "no column 'a'" in refused(frame, outcome="a - b")
    assert "3 parts" in refused(frame, outcome="a - b - c")
    assert "named twice" in refused(frame, by=["lr", "lr"])
    assert "'dataset' cannot be a hyperparameter" in refused(frame.assign(dataset="d"), by=["dataset"])
    assert "row 3: the network of row 2 again" in refused(frame.assign(seed=frame["seed"].replace(3, 2)))
    twice = pd.concat([frame, frame.iloc[[4]]], ignore_index=True).drop(columns="seed")
    assert "row 20: the same row as row 4" in refused(twice)
    assert "the measure 'flat' is 7 for all networks" in refused(frame.assign(flat=7))
    assert "the outcome 'gap' is 0.5 for all networks" in refused(frame.assign(gap=0.5))
    assert "has 2 networks with an outcome that fitted, an interval needs 3" in refused(frame.iloc[:2])
    assert "has 1 network with an outcome that fitted" in refused(frame.iloc[:1])
    assert "row 5: 'high' in column 'good' is not a finite number" in refused(
        frame.assign(good=frame["good"].astype(object).where(frame.index != 5, "high"))
    )
    assert "row 6: 'inf' in column 'good'" in refused(frame.assign(good=frame["good"].where(frame.index != 6, np.inf)))
    assert "row 1: no outcome 'gap'" in refused(frame.assign(gap=frame["gap"].where(frame.index != 1)))
    assert "row 1: no value in column 'seed'" in refused(frame.assign(seed=frame["seed"].where(frame.index != 1)))
    assert "'maybe' in column 'fitted' is neither true nor false" in refused(frame.assign(fitted="maybe"))
    assert "'lr' is named as a measure and otherwise" in refused(frame, measures=["lr"])
    assert "no column of numbers" in refused(frame[["lr", "width", "seed", "gap"]])
    assert "descending 'god' is not a measure of the table; did you mean 'good'?" in refused(
        frame, options=sharpbench.TableOptions(descending=["god"])
    )
    assert "by='lr' is one text; give a list of names, as ['lr']" in refused(frame, by="lr")
    assert "reaches 21.1" in refused(
        frame.assign(gap=100 * networks()["gap"] - 10), options=sharpbench.TableOptions(test_examples=100)
    )
    with pytest.raises(InvalidInput, match="design 'grid' is none of designed, random"):
        sharpbench.TableOptions(design="grid")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="0 test examples"):
        sharpbench.TableOptions(test_examples=0)
