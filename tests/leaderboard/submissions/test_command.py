"""`submit` and `verify` through the front door, in this process."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sharpbench import Record
from sharpbench.leaderboard.submissions import read_submission, read_verdicts
from tests.commands import given

from .conftest import forged


def sharpbench(*words: object) -> tuple[int, str, str]:
    done = given(*words)
    return done.returncode, done.stdout, done.stderr


def test_from_a_run_to_a_verified_entry(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = sharpbench("submit", ran, "--name", "mine", "--author", "A. U. Thor")
    path = Path("leaderboard/submissions/mine.jsonl")
    assert (status, err) == (0, "")
    assert out.startswith(f"{path}: 12 records of 3 measures")
    assert read_submission(path).manifest.author == "A. U. Thor"
    assert [each.name for each in path.parent.iterdir()] == ["mine.jsonl"]
    options = ("--cache-dir", ran / "cache", "--sample", 3)
    status, out, err = sharpbench("verify", path, *options, "--record")
    assert (status, err) == (0, "")
    assert "mine is verified" in out
    assert out.count("agrees") >= 3
    recorded = read_verdicts(path.with_name("mine.verdicts.jsonl"))
    assert {verdict.sample for verdict in recorded} == {3}
    assert sum(finding.what == "value" for verdict in recorded for finding in verdict.findings) == 3
    status, out, _ = sharpbench("verify", path, *options, "--json", "--cell", read_submission(path).records[0].key[:16])
    assert (status, json.loads(out)["state"]) == (0, "verified")
    status, out, err = sharpbench("verify", path, *options, "--record")
    assert (status, err) == (0, "3 of 3 cells are recorded already\n")
    assert "mine is verified" in out
    assert len(read_verdicts(path.with_name("mine.verdicts.jsonl"))) == len(recorded)


def test_how_verify_ends(text: str, records: tuple[Record, ...], ran: Path, tmp_path: Path) -> None:
    cell = ("--cell", records[0].key, "--cache-dir", ran / "cache")
    path = forged(text, tmp_path, [replace(records[0], value=2 * (records[0].value or 0))])
    status, out, _ = sharpbench("verify", path, *cell)
    assert (status, "differs" in out, "honest is refuted" in out) == (4, True, True)
    path = forged(text, tmp_path, [replace(records[0], truth={**records[0].truth, "steps": 1})])
    status, out, _ = sharpbench("verify", path, *cell)
    assert (status, "honest is claimed: fewer than nine of ten values could be compared here" in out) == (3, True)
    assert "training led to another network here" in out
    path = forged(text, tmp_path, [replace(records[0], stderr=9.0)])
    status, out, _ = sharpbench("verify", path, *cell, "--record")
    assert (status, "1 values agree, 0 differ" in out, "; 1 other numbers differ" in out) == (4, True, True)
    path = forged(text, tmp_path, note="amended")  # what was refuted before is drawn first
    status, out, _ = sharpbench("verify", path, "--sample", 1, "--seed", 5, "--cache-dir", ran / "cache", "--json")
    assert (status, {each["key"] for each in json.loads(out)["findings"]}) == (0, {records[0].key})
    path.with_name("honest.verdicts.jsonl").unlink()
    for words in (
        ("verify", tmp_path / "none.jsonl"),
        ("verify", path, "--sample", 0),
        ("verify", path, "--minutes", "nan"),
        ("verify", path, "--cell", "x"),
        ("submit", tmp_path, "--name", "honest"),
        ("submit", ran, "--name", "../honest"),
        ("submit", ran, "--name", "honest", "--output", tmp_path / "other.jsonl"),
        ("submit", ran, "--name", "honest", "--output", tmp_path / "honest.jsonl" / "honest.jsonl"),
        ("submit", ran, "--name", "honest", "--url", "ftp://x", "--output", tmp_path / "honest.jsonl"),
    ):
        status, out, err = sharpbench(*words)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("error: ")
    assert [each.name for each in tmp_path.iterdir()] == ["honest.jsonl"]
