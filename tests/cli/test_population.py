"""`sharpbench run --population`: networks that were trained elsewhere, from a description to a board."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.commands import given, refused
from tests.foreign_population import make_network, rewrite, write_population

QUICK = ("--measures", "parameter-norm", "--timing", "0", "--oracle", "0", "--invariance", "0", "--engine", "inline")


@pytest.mark.usefixtures("undrawn")
def test_a_description_becomes_a_board(tmp_path: Path) -> None:
    write_population(tmp_path / "lab")
    rewrite(tmp_path / "lab" / "networks.csv", ",0.25,", ",0.999,")
    done = given("run", "--population", "lab", *QUICK, "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "mine on npz:train.npz"
    assert "outcomes are claims of networks.csv; only the values of measures were found here" in lines
    assert "label noise" not in done.stdout
    assert "warning: weights 'n0.pt' state an accuracy of 99.9%" in done.stderr
    page = (tmp_path / "out" / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert "claimed by networks.csv" in page
    scores = json.loads((tmp_path / "out" / "leaderboard.json").read_text(encoding="utf-8"))
    assert [row["label"] for row in scores] == ["parameter-norm", "parameter norm", "random"]
    assert scores[0]["total"] == 6

    rewrite(tmp_path / "lab" / "mine.toml", "100", "200")
    (tmp_path / "lab" / "n0.pt").write_bytes((tmp_path / "lab" / "n1.pt").read_bytes())
    torch.save(make_network(9).state_dict(), tmp_path / "lab" / "n1.pt")
    words = ("run", "--population", "lab/mine.toml", *QUICK, "--output", "out", "--dry-run")
    shown = given(*words, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "net.py:make at n0.pt" in shown.stdout
    assert "6 networks, 6 cells, 1 to do" in shown.stdout
    assert "forecast: " in shown.stdout


def test_options_that_the_description_answers_are_refused(tmp_path: Path) -> None:
    write_population(tmp_path / "lab")
    words = ("run", "--population", "lab", *QUICK, "--models", "lenet", "--cohort", "label-noise")
    refused(given(*words, cwd=tmp_path), "leave out --models and --cohort")
    (tmp_path / "lab" / "mine.toml").unlink()
    refused(given("run", "--population", "lab", *QUICK, cwd=tmp_path), "holds no TOML file")
