"""`sharpbench score`: a table in, the board out; bad tables end in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.commands import given, refused


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["file,noise,seed,train_loss,test_loss,margin,trace,<i>"]
    for noise in (0.0, 0.5):
        for seed in range(5):
            gap = noise + 0.1 * rng.random()
            cells = (f"n{seed}.pt", noise, seed, 0.1, 0.1 + gap, -gap, 3 * gap + 0.05 * rng.random(), rng.random())
            lines.append(",".join(map(str, cells)))
    (tmp_path / "mine.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("undrawn")
def test_a_table_becomes_a_board(table: Path) -> None:
    done = given(
        *("score", "mine.csv", "--outcome", "test_loss - train_loss", "--by", "noise", "--descending", "margin"),
        *("--compare", "trace,-margin", "--model", "MLPs", "--output", "out"),
        cwd=table,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "MLPs on mine"
    row = next(line.split() for line in lines if " -margin " in line)
    assert row[:3] == ["1", "-margin", "1.00"]
    assert "Psi" not in done.stdout
    assert "out/LEADERBOARD.md, plots in out/plots" in lines
    assert any(line.startswith("trace and -margin: ") for line in lines)
    assert lines[-1] == "columns not used: file"
    scores = json.loads((table / "out" / "leaderboard.json").read_text(encoding="utf-8"))
    assert [row["label"] for row in scores] == ["-margin", "trace", "<i>", "training loss", "random"]
    page = (table / "out" / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert "generalization gap (test\\_loss - train\\_loss)" in page
    assert "&lt;i&gt;" in page
    assert "<i>" not in page
    whole = given(
        "score", "mine.csv", "--outcome", "test_loss - train_loss", "--by", "noise", "--full", cwd=table
    ).stdout
    assert "Psi" in whole
    assert "--full" not in whole


def test_bad_words_end_in_one_line(table: Path) -> None:
    refused(given("score", "mine.csv", cwd=table), "has no column 'gap'", "train_accuracy - test_accuracy")
    refused(given("score", "none.csv", cwd=table), "cannot read 'none.csv'")
    outcome = ("--outcome", "test_loss - train_loss")
    refused(given("score", "mine.csv", *outcome, "--by", "nose", cwd=table), "did you mean 'noise'")
    refused(given("score", "mine.csv", *outcome, "--compare", "trace", cwd=table), "names 1 measures; name two")
    (table / "file").touch()
    done = given("score", "mine.csv", *outcome, "--by", "noise", "--output", "file", cwd=table)
    refused(done, "cannot write into 'file'")


def test_names_with_commas_are_quoted(table: Path) -> None:
    text = (table / "mine.csv").read_text(encoding="utf-8").replace("<i>", '"a, b"')
    (table / "mine.csv").write_text(text, encoding="utf-8")
    done = given(
        *("score", "mine.csv", "--outcome", "test_loss - train_loss", "--by", "noise", "--measures", 'trace,"a, b"'),
        cwd=table,
    )
    assert done.returncode == 0, done.stderr
    assert "a, b" in done.stdout
    assert "margin" not in done.stdout
