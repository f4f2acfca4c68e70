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

from tests.commands import COMMAND

RUN = [
    *(COMMAND, "run", "--threads", "1", "--measures", "trace,fisher-rao,normalized,minimum", "--timing", "0"),
    *("--models", "small-mlp", "--oracle", "0"),
]


def start(output: Path, cache: Path, cohort: str) -> subprocess.Popen[bytes]:
    command = [*RUN, "--cohort", cohort, "--output", str(output), "--cache-dir", str(cache)]
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


@pytest.mark.parametrize(
    ("kills", "ratios", "size"),
    [(1, 2, 64), *(pytest.param(kills, 4, 256, marks=pytest.mark.slow) for kills in (3, 12))],
)
def test_a_run_killed_again_and_again_ends_as_an_undisturbed_one(
    kills: int, ratios: int, size: int, tmp_path: Path
) -> None:
    cohort = f"label-noise[ratios={ratios},seeds=6,train_size={size}]"
    undisturbed = start(tmp_path / "calm", tmp_path / "calm-cache", cohort)
    while progress(tmp_path / "calm", tmp_path / "calm-cache") == (0, 0) and undisturbed.poll() is None:
        time.sleep(0.01)
    began = time.monotonic()  # of the work: start-up, and the epochs before the first networks, are not part of it
    _, errors = undisturbed.communicate(timeout=240)
    assert undisturbed.returncode == 0, errors.decode()
    took = time.monotonic() - began
    calm = lines(tmp_path / "calm")
    assert len(calm) == ratios * 6 * 4

    moments = random.Random(7)
    output, cache = tmp_path / "killed", tmp_path / "killed-cache"
    seen = [(0, 0)]
    for kill in range(kills):
        process = start(output, cache, cohort)
        before, measuring = progress(output, cache), kill >= kills // 2  # the first in the training, the others later
        while (now := progress(output, cache)) == before or (measuring and now[1] == before[1]):
            if process.poll() is not None:
                break
            time.sleep(0.01)  # start-up is over when something new is on disk; kill in the work that follows
        time.sleep(moments.uniform(0.0, took / (16 * kills)))  # records come in bursts, after a group of networks
        process.send_signal(signal.SIGKILL)
        process.communicate()
        seen.append(progress(output, cache))
    assert len(set(seen)) > kills // 2, f"the kills hit too little work: {seen}"
    assert any(0 < records < len(calm) for _, records in seen)

    final = start(output, cache, cohort)
    _, errors = final.communicate(timeout=240)
    assert final.returncode == 0, errors.decode()
    records = lines(output)
    assert len({record["key"] for record in records}) == len(records) == len(calm)
    assert content(records) == content(calm)
    assert (output / "LEADERBOARD.md").exists()
