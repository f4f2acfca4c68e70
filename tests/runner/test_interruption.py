"""kill -9 at any moment of a run: after resuming, the records are those of an undisturbed run."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from sharpbench import plan, run
from tests.commands import COMMAND, started

RUN = [
    *(COMMAND, "run", "--threads", "1", "--measures", "trace,fisher-rao,normalized,minimum", "--timing", "0"),
    *("--models", "small-mlp", "--cohort", "label-noise[ratios=4,seeds=6,train_size=256]", "--oracle", "0"),
]


def start(output: Path, cache: Path) -> subprocess.Popen[bytes]:
    command = [*RUN, "--output", str(output), "--cache-dir", str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def lines(output: Path) -> list[dict[str, Any]]:
    """The whole lines of the record file; a torn last one is not yet a record."""
    path = output / "records.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def content(records: list[dict[str, Any]]) -> list[str]:
    """Everything but the times, as text that compares bit by bit."""
    kept = []
    for record in records:
        stripped = {key: value for key, value in record.items() if key not in ("time", "shared_seconds")}
        stripped["truth"] = {key: value for key, value in record["truth"].items() if key != "seconds"}
        kept.append(json.dumps(stripped, sort_keys=True))
    return kept


def progress(output: Path, cache: Path) -> tuple[int, int]:
    """Networks trained and records written so far."""
    return len(list(cache.glob("networks/[0-9a-f]*"))), len(lines(output))


PLUGIN = """
import os, signal
from dataclasses import dataclass
from pathlib import Path
from sharpbench import Estimate, Measure

@dataclass(frozen=True)
class Fatal(Measure):
    name, title, source = "fatal", "kills its process at the third call, where a file counts them", "tests"

    def __call__(self, subject, *, generator):
        calls = Path(__file__).with_name("calls")
        if calls.exists():
            calls.write_text(calls.read_text() + "x")
            if calls.read_text() == "xxx":
                calls.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return Estimate(1.0)

    def exact(self, subject):
        return None

    def invariances(self):
        return frozenset()

MEASURES = (Fatal,)
"""


def test_a_run_killed_in_a_measure_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """In the third of four networks, with two of its measures to go."""
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    measures, cohort = "sam,fatal,fisher-rao", "label-noise[ratios=2,seeds=2,train_size=32,max_epochs=2]"
    cells = plan(measures, "small-mlp", cohort=cohort, examples=8, timing=0, oracle=0, invariance=0, plugins=(plugin,))

    def run_here(name: str) -> list[dict[str, Any]]:
        folder = tmp_path / name
        cache = tmp_path / f"{name}-cache"
        list(run(cells, engine="inline", threads=1, output=folder, cache_dir=cache, plugins=(plugin,)))
        return lines(folder)

    calm = run_here("calm")
    (tmp_path / "calls").touch()
    words: list[object] = ["--models", "small-mlp", "--cohort", cohort, "--measures", measures, "--plugin", plugin]
    words += ["--examples", 8, "--timing", 0, "--oracle", 0, "--invariance", 0, "--engine", "inline", "--threads", 1]
    done = started("run", *words, "--output", tmp_path / "killed", "--cache-dir", tmp_path / "killed-cache")
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = lines(tmp_path / "killed")
    assert len(before) == 7
    after = run_here("killed")
    assert after[:7] == before
    assert len(after) == 12
    assert content(after) == content(calm)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, 12])
def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(kills: int, tmp_path: Path) -> None:
    undisturbed = start(tmp_path / "calm", tmp_path / "calm-cache")
    _, errors = undisturbed.communicate(timeout=240)
    assert undisturbed.returncode == 0, errors.decode()
    calm = lines(tmp_path / "calm")
    assert len(calm) == 4 * 6 * 4

    moments = random.Random(7)
    output, cache = tmp_path / "killed", tmp_path / "killed-cache"
    seen = [(0, 0)]
    for kill in range(kills):
        process = start(output, cache)
        before, measuring = progress(output, cache), kill >= kills // 2  # the first in the training, the others later
        further = moments.randint(1, len(calm) // (2 * kills))  # records: a machine of any speed has some left
        while (now := progress(output, cache)) == before or (measuring and now[1] < before[1] + further):
            if process.poll() is not None:
                break
            time.sleep(0.01)  # start-up is over when something new is on disk; kill in the work that follows
        time.sleep(moments.uniform(0.0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        seen.append(progress(output, cache))
    assert len(set(seen)) > kills // 2, f"the kills hit too little work: {seen}"
    assert any(0 < records < len(calm) for _, records in seen)

    final = start(output, cache)
    _, errors = final.communicate(timeout=240)
    assert final.returncode == 0, errors.decode()
    records = lines(output)
    assert len({record["key"] for record in records}) == len(records) == len(calm)
    assert content(records) == content(calm)
    assert (output / "LEADERBOARD.md").exists()
