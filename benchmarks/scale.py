"""Seconds and peak memory of commands with large inputs: `python -m benchmarks.scale [CASE ...]`.

- table: `score` of 10,000 networks x 30 measures x 6 hyperparameters, every number with its interval.
- drawn: `score` of 1,000 networks of drawn configurations of 8 hyperparameters x 30 measures.
- board: `score` of 2,000 networks of 11 levels of one hyperparameter x 30 measures.
- merge: `merge` of 100,000 records, 5,000 networks x 20 measures, with the leaderboard of all.
- submit: `submit` of 36,000 records, about as many as a submission may hold.
"""

from __future__ import annotations

import contextlib
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from sharpbench.core.measure import Measure
from sharpbench.core.record import Record
from sharpbench.core.registry import available
from sharpbench.core.spec import format_spec, to_config
from sharpbench.datasets import Digits
from sharpbench.models import SmallMlp
from sharpbench.runner.cell import KeyContent
from sharpbench.training.recipe import Recipe

MEASURES = 30
WATCH_SECONDS = 1.0
"""Time between two looks at the memory of the processes of a command."""
COMMAND = "from sharpbench.cli.main import main; main()"


@dataclass(frozen=True)
class Design:
    """Configurations of networks, each trained with several seeds."""

    configurations: Sequence[Sequence[int]]
    seeds: int
    drawn: bool = False


def _designs() -> dict[str, Design]:
    drawn = np.random.default_rng(0).integers(0, 4, (1000, 8)).tolist()
    return {
        "table": Design(list(product(*map(range, (5, 5, 5, 4, 2, 2)))), 5),
        "drawn": Design(drawn, 1, drawn=True),
        "board": Design([(level,) for level in range(11)], 182),
    }


def _write_table(design: Design, path: Path) -> list[str]:
    """Write a table of networks; the arguments of `score`."""
    rng = np.random.default_rng(0)
    rows = np.repeat(np.array(design.configurations), design.seeds, axis=0)
    gap = rows @ rng.random(rows.shape[1]) * 0.03 + 0.03 * rng.standard_normal(len(rows)) + 0.2
    gap = np.round(np.clip(gap, 0, 1), 4)
    values = gap[:, None] + 0.02 * np.arange(1, MEASURES + 1) * rng.standard_normal((len(rows), MEASURES))
    names = [f"h{number}" for number in range(rows.shape[1])]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "seed", "gap", *(f"m{number}" for number in range(MEASURES))])
        for place, (row, outcome, measured) in enumerate(zip(rows, gap, values, strict=True)):
            writer.writerow([*row, place, outcome, *measured])
    options = ["--by", ",".join(names), "--seed", "seed", "--test-examples", "10000"]
    return ["score", str(path), *options, *(["--design", "random"] if design.drawn else [])]


def _write_records(networks: int, measures: int, path: Path) -> None:
    """Write records as a run does."""
    rng, kind = np.random.default_rng(0), available("measures").classes["trace"]
    environment = {"sharpbench": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7", "processor": "AMD EPYC"}
    with path.open("w") as file:
        for position in range(networks):
            recipe = Recipe(model=SmallMlp(), dataset=Digits(), label_noise=position % 11 / 10, seed=position)
            test = round(float(rng.uniform(0.3, 0.95)) * 360) / 360
            truth = {"train_loss": 0.009, "train_accuracy": 1.0, "test_accuracy": test, "gap": 1.0 - test}
            truth |= {"fitted": True, "diverged": False, "steps": 71, "epochs": 71, "parameter_norm": 6.7}
            data = {"sha256": "4" * 64, "examples": 64, "available": 64, "test_examples": 360}
            data |= {"population": "small-mlp", "design": "designed", "position": position}
            for number in range(measures):
                measure: Measure = kind(method="hutchinson", samples=2 + number)
                record = Record(
                    key="",
                    measure="trace",
                    label=format_spec(measure),
                    configuration=to_config(measure),
                    recipe=recipe.row(),
                    truth=truth,
                    data=data,
                    seed=0,
                    dtype="float32",
                    device="cpu",
                    status="ok",
                    value=(value := float(rng.lognormal(3, 1))),
                    stderr=1.0,
                    low=value - 1,
                    high=value + 1,
                    probes=2 + number,
                    parts={f"layer{layer}.{name}": value / 6 for layer in range(3) for name in ("weight", "bias")},
                    environment=environment,
                    time="2026-01-01T00:00:00+00:00",
                )
                content = KeyContent.of_record(record, version=measure.version)
                object.__setattr__(record, "key", content.key(examples=64))
                file.write(record.to_json() + "\n")


def _arguments(case: str, folder: Path) -> list[str]:
    """The arguments of the command of a case, whose input is written."""
    if case in ("merge", "submit"):
        _write_records(*((5000, 20) if case == "merge" else (1800, 20)), folder / "records.jsonl")
        if case == "merge":
            return ["merge", str(folder), "--output", str(folder / "out")]
        return ["submit", str(folder), "--name", "large", "--output", str(folder / "large.jsonl")]
    return [*_write_table(_designs()[case], folder / "networks.csv"), "--output", str(folder / "out")]


def _watch_memory(process: int) -> int:
    """Wait until the process ends, without taking its status; the peak of its memory and of its children's, in KiB."""
    peak = 0
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        with contextlib.suppress(OSError):  # of a process that ended meanwhile
            children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
            if children:  # memory that n processes share counts as an n-th part of each; this takes long to read
                now = sum(_read_memory("smaps_rollup", "Pss", each) for each in (*children, str(process)))
            else:
                now = _read_memory("status", "VmHWM", str(process))
            peak = max(peak, now)
        time.sleep(WATCH_SECONDS)
    return peak


def _read_memory(file: str, entry: str, process: str) -> int:
    """An entry of a file that describes the memory of a process, in KiB; 0 where it is not there."""
    lines = Path(f"/proc/{process}/{file}").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{entry}:")), 0)


def main(cases: Sequence[str]) -> None:
    """Print a line for each case."""
    for case in cases or ("table", "drawn", "board", "merge", "submit"):
        with tempfile.TemporaryDirectory() as folder:
            arguments = _arguments(case, Path(folder))
            started = time.perf_counter()
            process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.DEVNULL)
            peak = _watch_memory(process.pid)
            _, status, used = os.wait4(process.pid, 0)
            if status:
                raise RuntimeError(f"{case} ended with status {os.waitstatus_to_exitcode(status)}")
            seconds, processor = time.perf_counter() - started, used.ru_utime + used.ru_stime
            found = f"{seconds:.1f} s, {processor:.1f} s of processor time, peak {peak >> 10:,} MiB"
            print(f"{case}: {found}; load of the machine {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
