"""Engines, shards, status and merge through the front door."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import given, refused

pytestmark = pytest.mark.usefixtures("undrawn")
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

EDITOR = """
import os
from dataclasses import dataclass
from pathlib import Path
from sharpbench import Estimate, Measure

@dataclass(frozen=True)
class Editor(Measure):
    name, title, source = "editor", "does to the file of records what other programs do", "tests"
    path: str = ""
    way: str = "deletes"
    def __call__(self, subject, *, generator):
        path = Path(self.path)
        if self.way == "deletes":
            path.unlink(missing_ok=True)
        else:
            os.truncate(path, 0)
        return Estimate(1.0)
    def exact(self, subject): return None
    def invariances(self): return frozenset()

MEASURES = (Editor,)
"""

DATA = """
from dataclasses import dataclass
from sharpbench import Dataset

@dataclass(frozen=True)
class Short(Dataset):
    name, title, source = "short-data", "a file that ends too soon", "tests"
    def load(self, folder): raise EOFError("compressed file ended")

DATASETS = (Short,)
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


@pytest.mark.parametrize("way", ["deletes", "truncates"])
def test_records_that_another_program_removes_are_kept_or_missed(way: str, tmp_path: Path) -> None:
    """A deleted file is written again. Of one that is emptied in place the exit status tells what is missing."""
    (tmp_path / "plugin.py").write_text(EDITOR, encoding="utf-8")
    out = tmp_path / "out"
    words = ("run", *SMALL, "--plugin", tmp_path / "plugin.py", "--cache-dir", tmp_path / "cache", "--output", out)
    measures = f"parameter-norm,editor[path={out / 'records.jsonl'},way={way}]"
    done = given(*words, "--engine", "inline", "--threads", "1", "--measures", measures)
    lines = (out / "records.jsonl").read_bytes().count(b"\n")
    assert f"{out / 'records.jsonl'}: another program changed it; " in done.stderr.replace("\n", "")
    if way == "deletes":
        assert (done.returncode, lines) == (0, 8), done.stderr
        return
    assert (done.returncode, lines) == (1, 1), done.stderr
    assert "error: 7 of 8 planned cells have no record in" in done.stderr
    assert given(*words, "--engine", "inline", "--threads", "1", "--measures", "parameter-norm").returncode == 0


def test_a_data_set_that_ends_too_soon_is_bad_input_and_not_an_interrupt(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(DATA, encoding="utf-8")
    words = ("run", "--plugin", tmp_path / "plugin.py", "--dataset", "short-data", "--output", tmp_path / "out")
    refused(given(*words), "dataset 'short-data' cannot be loaded: EOFError: compressed file ended; check its files")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--shard", "3/2"), "shard 3/2 must be from 1/2 to 2/2"),
        (("run", "--memory-limit", "much"), "memory limit 'much' is not a size; write 2GiB, or 500MB"),
        (("run", "--timeout", "-1"), "timeout=-1.0 must be a number of seconds above 0"),
    ],
)
def test_bad_input_gets_one_line(words: tuple[str, ...], message: str) -> None:
    refused(given(*words), f"error: {message}")
