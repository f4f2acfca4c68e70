"""docs/cohorts.md and docs/zoo.md: their examples are run as they stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sharpbench.core.spec import format_value
from sharpbench.datasets import Digits
from sharpbench.errors import InvalidInput
from sharpbench.models import Mlp, SmallMlp
from sharpbench.runner.plan import select_cohort
from sharpbench.training.cohorts import COHORTS, Hyperparameters
from sharpbench.training.cohorts.hyperparameters import AXIS_NAMES
from sharpbench.training.zoo_transfer import README_TEMPLATE
from tests.commands import given

DOCS = Path(__file__).parents[3] / "docs"
COHORTS_PAGE = (DOCS / "cohorts.md").read_text(encoding="utf-8")
ZOO_PAGE = (DOCS / "zoo.md").read_text(encoding="utf-8")


def block(page: str, language: str) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]


@pytest.mark.slow
def test_the_complete_example_is_run(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(block(COHORTS_PAGE, "toml"), encoding="utf-8")
    words = ["run", "--cohort", "mine.toml", "--models", "small-mlp", "--measures", "parameter-norm", "--threads", "1"]
    words += ["--cache-dir", "cache", "--output", "out", "--timing", "0", "--oracle", "0", "--invariance", "0"]
    done = given(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    assert len(records) == 20
    assert {(each["data"]["population"], each["data"]["design"]) for each in records} == {("small-mlp", "random")}
    excluded = sum(not each["truth"]["fitted"] for each in records)
    assert f"20 networks, {excluded} excluded as not fitted" in done.stdout


def test_its_comments_and_its_errors_are_true(tmp_path: Path) -> None:
    text, path = block(COHORTS_PAGE, "toml"), tmp_path / "mine.toml"
    path.write_text(text.partition("[random]")[0])
    assert len(select_cohort(str(path)).recipes((SmallMlp(),), Digits())) == 60
    errors = [line.removeprefix("error: ") for line in COHORTS_PAGE.splitlines() if line.startswith("error: mine.toml")]
    edits = (("learning_rate", "learning_rat", SmallMlp()), ("rho=0.1", "rho=-1", SmallMlp()), ("", "", Mlp()))
    assert len(errors) == len(edits)
    for (there, instead, model), error in zip(edits, errors, strict=True):
        path.write_text(text.replace(there, instead) if there else text)
        with pytest.raises(InvalidInput) as raised:
            select_cohort(str(path)).recipes((model,), Digits())
        assert str(raised.value).replace(str(path), "mine.toml") == error


def test_every_cohort_and_every_axis_is_on_the_page() -> None:
    for cohort in COHORTS:
        assert f"| `{cohort.name}`" in COHORTS_PAGE
    for name in AXIS_NAMES:
        (line,) = [line for line in COHORTS_PAGE.splitlines() if line.startswith(f"| `{name}` |")]
        values = getattr(Hyperparameters(), name)
        found = [word.strip(" `") for word in line.split("|")[2].split(":")[0].split(",")]
        told = [float(word) for word in found] if name != "optimizer" else found
        assert told == ([float(value) for value in values] if name != "optimizer" else list(map(format_value, values)))


def test_the_python_of_the_page_runs() -> None:
    space: dict[str, object] = {}
    exec(block(COHORTS_PAGE, "python"), space)
    assert len(space["cells"]) == 3 * 3 * 2  # type: ignore[arg-type]


def test_the_lines_that_load_a_folder_are_those_of_its_readme() -> None:
    assert block(ZOO_PAGE, "python") == block(README_TEMPLATE, "python")
