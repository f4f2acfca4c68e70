"""Kill -9 to workers at random all the time, and to the driver: every cell ends done, once, and nothing is lost."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sharpbench import Cell
from sharpbench.core.records import RECORDS, iterate_records

Plan = Callable[..., tuple[Cell, ...]]

DRIVER = """
import sys
from pathlib import Path
from sharpbench import plan, run
from sharpbench.core.registry import available

if __name__ == "__main__":
    plugin, cache, output, engine, cells, seconds, again = sys.argv[1:]
    odd = available("measures", [Path(plugin)]).classes["odd"]
    planned = plan(
        [odd("sleeps", number, float(seconds)) for number in range(int(cells) // 4)], "small-mlp",
        cohort="label-noise[ratios=4,seeds=1,train_size=32,max_epochs=2]",
        device="cpu", timing=0, oracle=0, invariance=0, examples=8, plugins=[Path(plugin)],
    )
    for record in run(
        planned, output=output, cache_dir=cache, plugins=[Path(plugin)], threads=1, workers=2, engine=engine,
        retry_failed=again == "again",
    ):
        pass
"""


def processes() -> Iterator[tuple[int, int, bytes]]:
    """Every process with its parent and its command."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            stat = (path / "stat").read_text().rpartition(")")[2].split()
            yield int(path.name), int(stat[1]), (path / "cmdline").read_bytes()


def workers(driver: int, engine: str) -> list[int]:
    """The processes that measure for the driver: children of the server that it started; with Ray, of its actors."""
    there = list(processes())
    if engine == "ray":
        actors = {pid for pid, _, command in there if command.startswith(b"ray::RayWorker")}
        servers = {pid for pid, parent, _ in there if parent in actors}
        return [*actors, *(pid for pid, parent, _ in there if parent in servers)]
    servers = {pid for pid, parent, command in there if parent == driver and b"forkserver" in command}
    return [pid for pid, parent, _ in there if parent in servers]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    ("engine", "cells", "seconds", "drivers"),
    [
        pytest.param("process", 40, 0.1, 1, marks=pytest.mark.slow),
        pytest.param("process", 200, 0.4, 5, marks=pytest.mark.slow),
        pytest.param("ray", 200, 0.4, 5, marks=pytest.mark.slow),
    ],
)
def test_every_cell_ends_done_once(
    engine: str, cells: int, seconds: float, drivers: int, plugin: Path, planned: Plan, odd: Any, tmp_path: Path
) -> None:
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    script = tmp_path / "driver.py"
    script.write_text(DRIVER, encoding="utf-8")
    records, draws = tmp_path / "out" / RECORDS, random.Random(3)
    words = [str(plugin), str(tmp_path / "cache"), str(tmp_path / "out"), engine, str(cells), str(seconds)]

    def start(again: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(script), *words, again], stderr=subprocess.PIPE)

    def count() -> int:
        return records.read_bytes().count(b"\n") if records.exists() else 0

    struck = 0
    for killed in range(1, drivers + 2):
        process = start("on")
        goal = killed * cells // (drivers + 1)  # the driver dies after this number of records, the last one not at all
        while process.poll() is None and (killed > drivers or count() < goal):
            time.sleep(1.0 if drivers > 1 else 0.5)
            with contextlib.suppress(ProcessLookupError):
                if found := workers(process.pid, engine):
                    before = count()
                    os.kill(draws.choice(found), signal.SIGKILL)
                    struck += 1
                    until = time.monotonic() + 30  # a machine that is too busy to start a worker in a second
                    while count() == before and process.poll() is None and time.monotonic() < until:
                        time.sleep(0.05)
        if killed <= drivers:
            process.kill()
        _, errors = process.communicate(timeout=120)
        assert process.returncode == (-signal.SIGKILL if killed <= drivers else 0), errors.decode()
        until = time.monotonic() + 20
        while (left := workers(process.pid, engine)) and time.monotonic() < until:
            time.sleep(0.1)
        assert not left  # none goes on without its driver
    if any(record.status != "ok" for record in iterate_records(records)):  # killed four times in a row
        process = start("again")
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
    found = [record for record in iterate_records(records) if record.status == "ok"]
    assert {record.reason.partition(",")[0] for record in iterate_records(records) if record.reason} <= {
        "killed: the process that measured it ended by SIGKILL",
        "killed: Ray lost its worker (The actor died unexpectedly before finishing this task)",
    }
    expected = planned([odd("sleeps", number, seconds) for number in range(cells // 4)], ratios=4)
    assert Counter(record.key for record in found) == Counter(cell.key for cell in expected)
    assert all(json.loads(line) for line in records.read_text(encoding="utf-8").splitlines())
    assert struck >= (drivers if drivers > 1 else 1)
