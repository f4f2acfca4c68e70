"""A simulated campaign: the overhead of the driver of a run. `python benchmarks/campaign.py [CELLS]`.

Cells of a measure that does nothing, on networks that are not trained, in a worker pool that finishes at once: the
remaining cost is the plan, the schedule, the records on disk, the status file and their memory. Then cells that sleep,
in worker processes: the overhead per cell. Prints one line per figure.
"""

from __future__ import annotations

import itertools
import resource
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from sharpbench import Cell, Estimate, Invariance, Measure, Record, Subject, plan, run
from sharpbench.core.jsonl import JsonlFile
from sharpbench.core.records import RECORDS, iterate_records
from sharpbench.datasets import Digits
from sharpbench.models import SmallMlp
from sharpbench.runner.cell import Checks, EvaluationSetting
from sharpbench.runner.cell_record import cell_record
from sharpbench.runner.engines.engine import Process
from sharpbench.runner.engines.pool import CellStarted, WorkerDeath
from sharpbench.runner.engines.scheduler import schedule
from sharpbench.runner.run import RunOptions, plan_run
from sharpbench.runner.status import StatusFile
from sharpbench.training.network import TrainingResult
from sharpbench.training.population import TrainingEpoch
from sharpbench.training.recipe import Recipe

MEASURES = 20
SLEPT, SLEEPS = 200, 0.01
TOGETHER, SYNCED = 500, 100


@dataclass(frozen=True)
class Sleep(Measure):
    """Sleeps."""

    name: ClassVar[str] = "sleep"
    title: ClassVar[str] = "sleeps"
    source: ClassVar[str] = "benchmarks"
    number: int = 0
    seconds: float = 0.0

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """1 after `seconds` seconds."""
        time.sleep(self.seconds)
        return Estimate(1.0)

    def exact(self, subject: Subject) -> float | None:
        """None."""
        return None

    def invariances(self) -> frozenset[Invariance]:
        """None."""
        return frozenset()


class Instant:
    """A worker pool of 64 that finishes at once."""

    slots = 64

    def __init__(self, empty: dict[str, Any]) -> None:
        self.started: list[tuple[int, Cell]] = []
        self.empty = empty

    def start(self, slot: int, cell: Cell) -> None:
        """Store the cell."""
        self.started.append((slot, cell))

    def wait(self) -> list[tuple[int, Record | WorkerDeath]]:
        """The records of all stored cells."""
        done, self.started = self.started, []
        return [
            (slot, replace(cell_record(cell, **self.empty), status="ok", reason=None, value=1.0)) for slot, cell in done
        ]

    def close(self) -> None:
        """There is nothing to end."""


class Untrained:
    """Networks that need no training, as nothing reads them."""

    def prepare(self, cell: Cell) -> Generator[TrainingEpoch, None, Any]:
        """Train nothing."""
        yield from ()
        return None

    def lost_record(self, cell: Cell, error: Exception) -> Record:
        """Raise the error: no network is lost."""
        raise error


def cells_of(count: int) -> list[Cell]:
    """`count` cells, MEASURES on each network."""
    recipes = [Recipe(model=SmallMlp(), dataset=Digits(), seed=seed) for seed in range(count // MEASURES)]
    measures = [Sleep(number) for number in range(MEASURES)]
    return [
        Cell(
            measure=measure, recipe=recipe, population="small-mlp", design="designed", position=recipe.seed,
            data_sha256="4" * 64, examples=None, setting=EvaluationSetting(), checks=Checks(),
        )
        for recipe, measure in itertools.product(recipes, measures)
    ]  # fmt: skip


def peak() -> float:
    """The peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def driver(count: int, folder: Path) -> None:
    """The driver's own work for `count` cells."""
    began, cells = time.process_time(), cells_of(count)
    keys = len({cell.key for cell in cells})
    print(f"plan: {keys} cells, {time.process_time() - began:.1f} s; peak {peak():.0f} MB")
    truth = TrainingResult(
        train_loss=0.01, train_accuracy=1.0, test_loss=0.5, test_accuracy=0.9, gap=0.1, fitted=True, diverged=False,
        steps=200, epochs=50, seconds=1.0, parameter_norm=7.5,
    )  # fmt: skip
    empty = {"data": Digits().load(None), "result": truth}

    began = time.process_time()
    with JsonlFile(folder / RECORDS) as file:
        status = StatusFile(folder, cells, planned=count, slots=Instant.slots, shard=None)
        held: list[Record] = []
        for event in schedule(cells, Instant(empty), Untrained()):
            if isinstance(event, Record):
                held.append(event)
            if isinstance(event, CellStarted | Record):
                status.update(event)
            if len(held) >= TOGETHER:  # a run writes records one by one; that time is measured below
                file.append(*held)
                held.clear()
        file.append(*held)
    print(f"driver: {1e3 * (time.process_time() - began) / count:.2f} ms of processor a cell")
    began, wall = time.process_time(), time.perf_counter()
    left = len(plan_run(cells, RunOptions(output=folder)).left)
    spent, wall = time.process_time() - began, time.perf_counter() - wall
    print(f"resume scan: {spent:.2f} s of processor, {wall:.2f} s; {left} left")
    began = time.process_time()
    read = list(iterate_records(folder / RECORDS))
    print(f"reading {len(read)} records: {time.process_time() - began:.1f} s of processor; peak {peak():.0f} MB")
    with JsonlFile(folder / "single.jsonl") as file:
        wall = time.perf_counter()
        for record in read[:SYNCED]:
            file.append(record)
    print(f"a record on disk: {1e3 * (time.perf_counter() - wall) / SYNCED:.1f} ms")


def processes(folder: Path) -> None:
    """The overhead of a cell in a worker process that is reused."""
    cohort = "label-noise[ratios=2,seeds=1,train_size=32,max_epochs=2]"
    measures = [Sleep(number, SLEEPS) for number in range(SLEPT // 2)]
    cells = plan(measures, "small-mlp", cohort=cohort, timing=0, oracle=0, invariance=0, examples=8)
    times = [time.perf_counter() for _ in run(cells, cache_dir=folder, threads=1, engine=Process())]
    gaps = sorted(late - early - SLEEPS for early, late in itertools.pairwise(times))
    print(f"process engine: {1e3 * gaps[len(gaps) // 2]:.1f} ms a cell (median), {1e3 * gaps[-1]:.1f} ms the longest")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        driver(int(sys.argv[1]) if len(sys.argv) > 1 else 10**5, Path(place) / "out")
        processes(Path(place))
