"""The committed replays: their pages come out of their own records, letter by letter."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from sharpbench.core.records import iterate_records
from sharpbench.replays.catalog import parse_replay
from sharpbench.report.page import list_pictures, render_page

FOLDER = Path(__file__).parents[2] / "leaderboard" / "replays"
PUBLISHED = sorted(path.parent for path in FOLDER.glob("*/REPLAY.md"))


@pytest.mark.skipif(not FOLDER.exists(), reason="a distribution of only the package has no leaderboard")
def test_each_replay_is_published() -> None:
    names = ["asam-2021", "edge-of-stability-2021", "friendly-sam-2024", "minimum-sharpness-2021"]
    assert [path.name for path in PUBLISHED] == names


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: path.name)
def test_the_page_comes_out_of_the_records(folder: Path) -> None:
    replay = parse_replay(folder.name)
    findings = {
        path.stem: pd.DataFrame(json.loads(path.read_text(encoding="utf-8"))["rows"]) for path in folder.glob("*.json")
    }
    page = replay.page("quick", list(iterate_records(folder / "records.jsonl")), findings)
    text = (folder / "REPLAY.md").read_text(encoding="utf-8")
    version = text.partition("sharpbench ")[2].partition(":")[0]
    assert text == render_page(page, version=version, command=f"sharpbench replay {folder.name} --scale quick")
    drawn = {f"{picture.name}.svg" for picture in list_pictures(page)}
    assert drawn == {path.name for path in folder.glob("*.svg")}
