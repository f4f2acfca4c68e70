"""A storm of kills: processes of runs are killed at random moments, and every cell must end done, once, with its value.

    python benchmarks/kills.py --engine process            # 250 kills of drivers, workers, trainers and their server
    python benchmarks/kills.py --engine ray --kills 100    # and of Ray's actors; needs `pip install 'sharpbench[ray]'`

One trial runs a plan from nothing: networks are trained in an empty cache, and the same command is given again until it
ends by itself. Then its records are compared with those of a run that was left in peace. Finished trials are lines of
--results, so an interrupted storm, or one that --seconds ended, goes on where it stopped. Linux only: it reads /proc.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLUGIN = """
import time
from dataclasses import dataclass
from sharpbench import Estimate, Measure

@dataclass(frozen=True)
class Pause(Measure):
    name, title, source = "pause", "sum of absolute weights, after a pause", "benchmarks"
    number: int = 0

    def exact(self, subject):
        return None

    def invariances(self):
        return frozenset()

    def __call__(self, subject, *, generator):
        time.sleep(0.15)
        return Estimate((self.number + 1) * sum(float(each.double().abs().sum()) for each in subject.params.values()))

MEASURES = (Pause,)
"""
CELLS_A_NETWORK = 6
OPTIONS = {
    "--measures": ",".join(f"pause[number={number}]" for number in range(CELLS_A_NETWORK)),
    "--models": "small-mlp,small-cnn",
    "--cohort": "label-noise[ratios=2,seeds=3,train_size=64]",
    "--device": "cpu",
    "--threads": "1",
    "--workers": "2",
    "--timing": "0",
    "--oracle": "0",
    "--invariance": "0",
}
START = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGHUP, signal.SIG_DFL); from sharpbench.cli.main import main; main()"
)
"""A shell lets a storm in the background ignore these signals, and its runs would inherit that."""
ACTOR = b"ray::RayWorker"
"""How the command of one of Ray's actors begins."""
SIGNALS = {
    "driver": ("KILL", "KILL", "INT", "TERM", "HUP"),
    "worker": ("KILL", "KILL", "TERM", "HUP"),
    "trainer": ("KILL", "KILL", "TERM"),
    "server": ("KILL",),
    "actor": ("KILL", "TERM"),
}
WEIGHTS = {"driver": 1, "worker": 6, "trainer": 5, "server": 1, "actor": 1}
"""How often each kind is struck, among those that run."""
DRIVER_AT_ITS_START = 0.05
"""The chance that a driver without other processes is struck; otherwise no run would reach its workers."""
MAX_PAUSE_SECONDS = 1.5
"""The longest time between two kills."""
MAX_KILLS_OF_A_TRIAL = 10
"""After so many a trial is left in peace, so that it ends."""
MAX_KILLS_BEFORE_MEASURING = 5
"""Kills of a trial after which none follows until workers measure; on busy cores the training would meet them all."""
MAX_SECONDS_TO_END = 60.0
"""How long a driver may take to end after its signal, and its processes after it."""
MAX_SECONDS_OF_A_RUN = 600.0


@dataclass(frozen=True, slots=True)
class Process:
    """A process of /proc."""

    pid: int
    parent: int
    command: bytes


def list_processes() -> dict[int, Process]:
    """All processes that run, by their number."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                found[int(path.name)] = Process(int(path.name), int(parent), (path / "cmdline").read_bytes())
    return found


def list_descendants(driver: int) -> list[Process]:
    """All processes below the driver; with Ray also those of its cluster, which the driver starts."""
    there = list_processes()
    found: list[Process] = []
    reached = {driver}
    while new := [each for each in there.values() if each.parent in reached and each.pid not in reached]:
        found += new
        reached |= {each.pid for each in new}
    return found


def classify_processes(driver: int) -> dict[str, list[int]]:
    """The processes of a run that are struck, by kind."""
    below = list_descendants(driver)
    actors = {each.pid for each in below if each.command.startswith(ACTOR)}
    servers = {
        each.pid for each in below if b"multiprocessing.forkserver" in each.command and each.parent in {driver, *actors}
    }
    kinds = {
        "driver": [driver],
        "server": sorted(servers),
        "worker": [each.pid for each in below if each.parent in servers],
        "trainer": [each.pid for each in below if b"multiprocessing.spawn" in each.command and each.parent == driver],
        "actor": sorted(actors),
    }
    return {kind: pids for kind, pids in kinds.items() if pids}


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a trial works."""

    root: Path

    @property
    def records(self) -> Path:
        """The records of the run."""
        return self.root / "results" / "records.jsonl"

    def start_run(self, engine: str, *extra: str) -> subprocess.Popen[bytes]:
        """The command that runs the plan, in a process group by itself."""
        plugin = self.root / "pause.py"
        plugin.parent.mkdir(parents=True, exist_ok=True)
        plugin.write_text(PLUGIN, encoding="utf-8")
        paths = ("--plugin", str(plugin), "--output", str(self.records.parent), "--cache-dir", str(self.root / "cache"))
        words = (*(word for pair in OPTIONS.items() for word in pair), *paths, "--engine", engine, *extra)
        with (self.root / "errors").open("wb") as errors:
            return subprocess.Popen(
                [sys.executable, "-c", START, "run", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    def last_error(self) -> str:
        """The end of what the driver wrote to stderr."""
        return (self.root / "errors").read_text(encoding="utf-8", errors="replace").strip()[-300:]


def load_records(path: Path) -> list[dict[str, Any]]:
    """All records; ValueError for a line that is not one."""
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def describe_result(record: Mapping[str, Any]) -> str:
    """What two runs must agree in: value, the truth of the network except its seconds, and data."""
    truth = {name: value for name, value in record["truth"].items() if name != "seconds"}
    return json.dumps([record["label"], record["value"], truth, record["data"]], sort_keys=True)


def find_faults(records: Sequence[Mapping[str, Any]], expected: Mapping[str, str]) -> list[str]:
    """What is wrong with the records of a storm; empty where every cell is done once with the value expected."""
    done = [record for record in records if record["status"] == "ok"]
    times = Counter(record["key"] for record in done)
    faults = [f"{count} records of {key}" for key, count in times.items() if count > 1]
    faults += [f"no value of {key}" for key in expected if key not in times]
    faults += [f"another value of {each['key']}" for each in done if describe_result(each) != expected.get(each["key"])]
    for record in records:
        if record["status"] != "ok" and not is_true_failure(record):
            faults.append(f"{record['key']} is {record['status']}: {record['reason']}")
    return faults


def is_true_failure(record: Mapping[str, Any]) -> bool:
    """Whether a record that is not ok says what happened: its process was killed, again and again."""
    reason = str(record["reason"])
    killed = any(f"by SIG{name}" in reason for names in SIGNALS.values() for name in names) or "Ray lost" in reason
    return record["status"] == "failed" and killed and reason.endswith("times")


def strike(driver: subprocess.Popen[bytes], draws: random.Random, struck: Counter[str]) -> tuple[str, str] | None:
    """Kill one process of the run; its kind and the signal, or None where none is killed.

    struck: how often each kind was struck by each signal in this trial.
    """
    kinds = classify_processes(driver.pid)
    if driver.poll() is not None or (len(kinds) == 1 and draws.random() > DRIVER_AT_ITS_START):
        return None
    if struck.total() >= (MAX_KILLS_OF_A_TRIAL if "worker" in kinds else MAX_KILLS_BEFORE_MEASURING):
        return None
    kind = draws.choices(list(kinds), [WEIGHTS[each] for each in kinds])[0]
    name = draws.choice(SIGNALS[kind])
    try:
        os.kill(draws.choice(kinds[kind]), signal.Signals[f"SIG{name}"])
    except ProcessLookupError:
        return None
    return kind, name


def run_trial(engine: str, folders: Folders, expected: Mapping[str, str], draws: random.Random) -> dict[str, Any]:
    """One plan from nothing to its end under kills: what was struck, how often it was started, and the faults."""
    struck: Counter[str] = Counter()
    faults: list[str] = []
    starts = 0
    while True:
        starts += 1
        extra = ["--retry-failed"] if starts > 1 else []
        driver = folders.start_run(engine, *extra)
        until = time.monotonic() + MAX_SECONDS_OF_A_RUN
        ended_by = None
        try:
            while driver.poll() is None and time.monotonic() < until:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    driver.wait(draws.uniform(0.05, MAX_PAUSE_SECONDS))
                hit = strike(driver, draws, struck)
                if hit is not None:
                    struck[" ".join(hit)] += 1
                if hit is not None and hit[0] == "driver":
                    ended_by = hit[1]
                    break
        except (KeyboardInterrupt, SystemExit):  # an interrupted storm leaves no run behind
            driver.terminate()
            driver.wait()
            raise
        below = list_descendants(driver.pid)
        try:
            status = driver.wait(MAX_SECONDS_TO_END if ended_by or driver.poll() is not None else 0.0)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()
            status = None
            faults.append(f"the driver did not end after {ended_by or 'its cells'}")
        faults += [f"{each.command[:60]!r} outlives its driver" for each in wait_for_end(below) if is_ours(each)]
        if ended_by is None and status is not None and status not in (0, 1):
            faults.append(f"the driver ended with status {status}: {folders.last_error()}")
        if status == 0 or starts > 2 * MAX_KILLS_OF_A_TRIAL:
            break
    faults += find_faults(load_records(folders.records), expected)
    return {"struck": dict(struck), "starts": starts, "cells": len(expected), "faults": faults}


def is_ours(process: Process) -> bool:
    """Whether it is not an agent of Ray, which ends when it misses the rest of its cluster, in its own time."""
    return not process.command.startswith(b"ray::") or process.command.startswith(ACTOR)


def wait_for_end(processes: Sequence[Process]) -> list[Process]:
    """Those that still run after some time; they are ended."""
    until = time.monotonic() + MAX_SECONDS_TO_END
    while True:
        there = list_processes()
        left = [each for each in processes if each.pid in there and there[each.pid].command == each.command]
        if not left or time.monotonic() > until:
            break
        time.sleep(0.2)
    for each in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each.pid, signal.SIGKILL)
    return left


def measure_in_peace(engine: str) -> dict[str, str]:
    """What every cell must give, by key."""
    with tempfile.TemporaryDirectory(prefix="sharpbench-") as folder:
        folders = Folders(Path(folder))
        if folders.start_run(engine).wait():
            raise SystemExit(f"the run without kills failed: {folders.last_error()}")
        return {record["key"]: describe_result(record) for record in load_records(folders.records)}


def storm(engine: str, results: Path, *, kills: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Trials until there are enough kills or the time is over."""
    began, trials = time.monotonic(), [each for each in load_records(results) if each["engine"] == engine]
    expected: dict[str, str] = {}
    while count_kills(trials) < kills and time.monotonic() - began < seconds:
        expected = expected or measure_in_peace("process")
        with tempfile.TemporaryDirectory(prefix="sharpbench-") as folder:
            draws = random.Random(f"{engine} {len(trials)}")
            found = {"engine": engine, **run_trial(engine, Folders(Path(folder)), expected, draws)}
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
        trials.append(found)
        yield found


def count_kills(trials: Sequence[Mapping[str, Any]]) -> int:
    """The kills of all trials."""
    return sum(sum(each["struck"].values()) for each in trials)


def format_tally(trials: Sequence[Mapping[str, Any]]) -> str:
    """The kills by engine, process and signal, and what became of the cells."""
    struck: Counter[tuple[str, str]] = Counter()
    for each in trials:
        for what, times in each["struck"].items():
            struck[each["engine"], what] += times
    faults = [fault for each in trials for fault in each["faults"]]
    lines = [f"{engine:8} {what:14} {times:4}" for (engine, what), times in sorted(struck.items())]
    cells, starts = (sum(each[name] for each in trials) for name in ("cells", "starts"))
    lines.append(f"{count_kills(trials)} kills in {len(trials)} trials of {starts} starts; {cells} cells")
    lines += [f"fault: {fault}" for fault in faults] or ["every cell is done once, with the value of a run in peace"]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", choices=("process", "ray"), default="process")
    parser.add_argument("--kills", type=int, default=250)
    parser.add_argument("--results", type=Path, default=Path("kills.jsonl"))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no trial begins after these")
    chosen = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if chosen.engine == "ray" and importlib.util.find_spec("ray") is None:
        raise SystemExit("--engine ray needs the package ray; pip install 'sharpbench[ray]'")
    for trial in storm(chosen.engine, chosen.results, kills=chosen.kills, seconds=chosen.seconds):
        print(trial["starts"], "starts", trial["struck"], *trial["faults"], sep="  ", flush=True)
    trials = load_records(chosen.results)
    print(format_tally(trials))
    raise SystemExit(1 if any(each["faults"] for each in trials) else 0)


if __name__ == "__main__":
    main()
