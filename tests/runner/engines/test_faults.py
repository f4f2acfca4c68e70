"""Kills of drivers, workers, trainers, their server and Ray's actors: every cell ends done, once; nothing is lost."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kills import count_kills, describe_result, find_faults, format_tally, storm


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("engine", ["process", "ray"])
def test_every_cell_ends_done_once(engine: str, tmp_path: Path) -> None:
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    results = tmp_path / "kills.jsonl"
    trials = list(storm(engine, results, kills=50, seconds=2000))
    assert [fault for each in trials for fault in each["faults"]] == []
    assert count_kills(trials) >= 50
    assert len(results.read_text(encoding="utf-8").splitlines()) == len(trials)
    assert list(storm(engine, results, kills=50, seconds=2000)) == []  # a finished storm is not repeated
    assert format_tally(trials).endswith("every cell is done once, with the value of a run in peace")


def record(**changes: Any) -> dict[str, Any]:
    """A record of a cell that is done."""
    usual = {"key": "a", "label": "pause", "status": "ok", "reason": None, "value": 1.5, "data": {}}
    return {**usual, "truth": {"gap": 0.25, "seconds": 2.0}, **changes}


@pytest.mark.parametrize(
    ("records", "fault"),
    [
        ([record(), record(truth={"gap": 0.25, "seconds": 9.0}, key="b")], None),
        ([record(), record(), record(key="b")], "2 records of a"),
        ([record()], "no value of b"),
        ([record(value=1.25), record(key="b")], "another value of a"),
        ([record(truth={"gap": 0.5}), record(key="b")], "another value of a"),
        ([record(key="b"), record(key="c"), record()], "another value of c"),
        ([record(key="b"), record(), record(status="failed", reason="ValueError: x")], "a is failed: ValueError: x"),
        (
            [record(key="b"), record(), record(status="failed", reason="killed: ... ended by SIGKILL, 4 times")],
            None,
        ),
    ],
)
def test_records_of_a_storm_are_judged(records: list[dict[str, Any]], fault: str | None) -> None:
    expected = {"a": describe_result(record()), "b": describe_result(record(key="b"))}
    assert find_faults(json.loads(json.dumps(records)), expected) == ([] if fault is None else [fault])
