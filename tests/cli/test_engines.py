"""Engines, shards, status and merge through the front door."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import given, refused

SMALL = (
    *("--models", "small-mlp", "--cohort", "label-noise[ratios=2,seeds=2,train_size=32,max_epochs=2]"),
    *("--examples", "8", "--oracle", "0", "--timing", "0", "--invariance", "0"),
)

PLUGIN = """
import os
from dataclasses import dataclass
from sharpbench import Estimate, Measure

@dataclass(frozen=True)
class Fatal(Measure):
    name, title, source = "fatal", "ends its process", "tests"
    def __call__(self, subject, *, generator): os._exit(5)
    def exact(self, subject): return None
    def invariances(self): return frozenset()

MEASURES = (Fatal,)
"""


def test_shards_run_stand_and_merge(tmp_path: Path) -> None:
    """One half with a measure that ends its process: its cells fail, the exit status tells, and all is merged."""
    (tmp_path / "plugin.py").write_text(PLUGIN, encoding="utf-8")
    plugin, cache = ("--plugin", str(tmp_path / "plugin.py")), ("--cache-dir", str(tmp_path / "cache"))
    words = ("run", *SMALL, *plugin, *cache, "--measures", "fatal,parameter-norm", "--timeout", "200")
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    first = given(*words, "--shard", "2/2", "--output", one, "--memory-limit", "4GiB")
    assert first.returncode == 1, first.stderr
    assert first.stderr == ""
    assert "the process that measured it ended with status 5" in first.stdout
    told = given("status", one, "--json")
    assert told.returncode == 1
    found = json.loads(told.stdout)
    assert (found["left"], found["alive"], found["shard"]) == (0, False, "2/2")
    assert found["done"]["failed"] == found["done"]["ok"] == found["planned"] / 2
    second = given(*words, "--shard", "1/2", "--output", two, "--engine", "inline", "--measures", "parameter-norm")
    assert second.returncode == 2
    assert second.stderr.startswith("error: engine 'inline' knows no timeout, memory limit or split")
    merged = given("merge", one, "--output", str(tmp_path / "out"))
    assert merged.returncode == 1
    assert f"{found['planned']} records read, {found['planned']} added" in merged.stdout
    assert (tmp_path / "out" / "LEADERBOARD.md").exists()
    assert "none is alive" in given("status", str(tmp_path / "out")).stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--shard", "3/2"), "shard 3/2 must be from 1/2 to 2/2"),
        (("run", "--memory-limit", "much"), "memory limit 'much' is not a size; write 2GiB, or 500MB"),
        (("run", "--timeout", "-1"), "timeout=-1.0 must be a number of seconds above 0"),
        (("status", "/nowhere"), "no records at /nowhere/records.jsonl"),
        (("merge", "/nowhere", "--output", "/tmp"), "no records at /nowhere/records.jsonl"),
    ],
)
def test_bad_input_gets_one_line(words: tuple[str, ...], message: str) -> None:
    refused(given(*words), f"error: {message}")
