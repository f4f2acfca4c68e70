"""`sharpbench export`: the boards of records for a paper or another program; what cannot be exported is one line."""

from __future__ import annotations

import io
import json
import resource
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from sharpbench.core.records import RECORDS
from sharpbench.report.format import OutcomeLabel
from sharpbench.report.scored_boards import ScoredBoards
from tests.commands import given, refused
from tests.synthetic import cohort


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [record.to_json() + "\n" for record in cohort(seeds=3)]
    (tmp_path / RECORDS).write_text("".join(lines) + lines[0][:40], encoding="utf-8")  # and what a killed run leaves
    return tmp_path


def test_every_format_holds_the_board(folder: Path) -> None:
    latex = given("export", str(folder), cwd=folder)
    assert (latex.returncode, latex.stderr) == (0, "")
    boards = ScoredBoards.from_records(cohort(seeds=3))
    assert latex.stdout == boards.to_latex()
    csv = given("export", str(folder), "--format", "csv", "--output", "board.csv", cwd=folder)
    assert csv.stdout == "board.csv written\n"
    frame = pd.read_csv(folder / "board.csv")
    assert frame["tau"].tolist() == pytest.approx([score.marginal.value for score in boards.scores], nan_ok=True)
    found = json.loads(given("export", "--format", "json", str(folder / RECORDS), cwd=folder).stdout)
    from_json = pd.read_json(io.StringIO(json.dumps(found)))
    assert from_json["measure"].tolist() == frame["measure"].tolist()
    assert found[0]["tau"] == pytest.approx(boards.scores[0].marginal.value, abs=1e-14)


def test_no_cell_of_csv_is_a_formula(tmp_path: Path) -> None:
    lines = [replace(record, label="=cmd()").to_json() + "\n" for record in cohort(seeds=3, measures=["good"])]
    (tmp_path / RECORDS).write_text("".join(lines), encoding="utf-8")
    done = given("export", str(tmp_path), "--format", "csv", cwd=tmp_path)
    assert "'=cmd()" in done.stdout
    assert ",=cmd()" not in done.stdout


def test_words_for_the_outcome_stay_in_the_comment() -> None:
    boards = ScoredBoards.from_records(cohort(seeds=3), OutcomeLabel(meaning="a\n\\input{x}"))
    assert [line for line in boards.to_latex().splitlines() if "input" in line] == [
        "% mlp on digits; a \\input{x}; [95 % intervals]"
    ]


def test_a_full_disk_leaves_the_earlier_export(folder: Path) -> None:
    words = ("export", str(folder), "--format", "csv", "--output", "board.csv")
    assert given(*words, cwd=folder).returncode == 0
    before = (folder / "board.csv").read_text(encoding="utf-8")
    whole = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, whole[1]))
    try:
        done = given(*words, cwd=folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, whole)
    refused(done, "File too large", "make room, or choose another --output")
    assert (folder / "board.csv").read_text(encoding="utf-8") == before


def test_what_cannot_be_exported_is_one_line(folder: Path) -> None:
    refused(given("export", "none", cwd=folder), "no records at none")
    below = f"{RECORDS}/such.tex"
    refused(given("export", str(folder), "--output", below, cwd=folder), f"cannot write into '{below}'")
    refused(given("export", str(folder), "--format", "tex", cwd=folder), "'tex'", "latex")
    (folder / "empty.jsonl").write_text("", encoding="utf-8")
    refused(given("export", "empty.jsonl", cwd=folder), "no board can be made from empty.jsonl")
