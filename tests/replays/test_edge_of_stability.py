"""The replay of the edge of stability: short runs through the command, and the whole runs against their bounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from sharpbench.files import Workspace
from sharpbench.replays import edge_of_stability_2021 as edge
from sharpbench.replays.study import run_study
from tests.commands import given


def test_a_short_replay_writes_its_page_and_goes_on_from_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tuple(replace(claim, run=replace(claim.run, steps=40, examples=32)) for claim in edge.CLAIMS)
    monkeypatch.setattr(edge, "CLAIMS", short)
    monkeypatch.setattr(edge, "MEASURED", 2)
    output = tmp_path / "out"
    done = given("replay", "edge-of-stability-2021", "--output", str(output))
    assert done.returncode == 0, done.stderr
    names = {"REPLAY.md", "edge.svg", "edge.png", "gradient-descent.json", "sgd.json", "adam.json"}
    assert {path.name for path in output.iterdir()} == names
    page = (output / "REPLAY.md").read_text(encoding="utf-8")
    assert "| gradient descent" in page
    before = (output / "sgd.json").read_bytes()
    assert given("replay", "edge-of-stability-2021", "--output", str(output)).returncode == 0
    assert (output / "sgd.json").read_bytes() == before
    dry = given("replay", "edge-of-stability-2021", "--dry-run")
    assert dry.stdout.startswith("edge-of-stability-2021, scale quick: trains three networks")


def test_the_ratio_is_of_the_last_quarter() -> None:
    claim = replace(edge.CLAIMS[0], run=replace(edge.CLAIMS[0].run, steps=4))
    table = pd.DataFrame({"step": [0, 1, 2, 3, 4], "value": [9.0, 9, 9, 2, 4], "bound": [1.0, 1, 1, 2, 2]})
    assert edge.edge_ratio(claim, table) == 1.5


@pytest.mark.slow
@pytest.mark.parametrize("claim", edge.CLAIMS, ids=lambda claim: claim.run.optimizer)
def test_each_run_settles_at_its_bound(claim: edge.Claim, tmp_path: Path) -> None:
    found = run_study(claim.run, Workspace(cache_dir=tmp_path), tmp_path)
    assert edge.edge_ratio(claim, found) == pytest.approx(1, abs=claim.tolerance)
