"""Engine: where cells are measured - in this process, in processes of their own, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from sharpbench.core.record import Record
from sharpbench.datasets.dataset import Data, Dataset
from sharpbench.errors import InvalidInput, short
from sharpbench.files import Workspace
from sharpbench.runner.cell import Cell
from sharpbench.runner.engines.base import Limits, WorkerPool
from sharpbench.runner.engines.process import ProcessPool
from sharpbench.runner.evaluate_cell import CellEvaluator
from sharpbench.runner.failures import WorkerDeath

Word = Literal["inline", "process", "ray"]


class Engine(Protocol):
    """A kind of place where cells are measured, with its settings: a frozen value."""

    def threads(self, workers: int, cores: int) -> int:
        """Threads of torch in each process that measures, where none are asked for."""

    def trainers(self, workers: int, cores: int) -> int:
        """Processes that train, on this machine."""

    def seats(self, workers: int) -> int:
        """How many cells `workers` processes measure at a time; InvalidInput where there are too few for one."""

    def crew(self, workspace: Workspace, *, workers: int, load: Callable[[Dataset], Data]) -> WorkerPool:
        """Those who measure; `workers` processes in all. load: the data of this process."""


@dataclass(frozen=True, slots=True)
class Inline:
    """In this process: nothing is watched, nothing is caught; a measure that ends the process ends the run."""

    def threads(self, workers: int, cores: int) -> int:
        """See Engine."""
        return cores

    def trainers(self, workers: int, cores: int) -> int:
        """See Engine."""
        return workers

    def seats(self, workers: int) -> int:
        """See Engine."""
        return _Here.seats

    def crew(self, workspace: Workspace, *, workers: int, load: Callable[[Dataset], Data]) -> WorkerPool:
        """See Engine."""
        return _Here(CellEvaluator(workspace.cache_dir, load))


class _Here:
    """The crew of one that is this process."""

    seats = 1

    def __init__(self, bench: CellEvaluator) -> None:
        self.bench = bench
        self._cell: Cell | None = None

    def begin(self, seat: int, cell: Cell) -> None:
        self._cell = cell

    def finished(self) -> list[tuple[int, Record | WorkerDeath]]:
        if self._cell is None:
            raise RuntimeError("no cell was begun")
        cell, self._cell = self._cell, None
        return [(0, self.bench.record(cell))]

    def close(self) -> None:
        self._cell = None


@dataclass(frozen=True, slots=True)
class Process:
    """In worker processes on this machine, see `processes`."""

    limits: Limits = field(default_factory=Limits)

    def threads(self, workers: int, cores: int) -> int:
        """See Engine."""
        return max(1, cores // workers)

    def trainers(self, workers: int, cores: int) -> int:
        """See Engine."""
        return workers

    def seats(self, workers: int) -> int:
        """See Engine."""
        return _seats(workers, self.limits)

    def crew(self, workspace: Workspace, *, workers: int, load: Callable[[Dataset], Data]) -> WorkerPool:
        """See Engine."""
        crew = ProcessPool(workspace, self.limits, seats=self.seats(workers))
        crew.warm()
        return crew


@dataclass(frozen=True, slots=True)
class Ray:
    """On a Ray cluster: one started here, or the one at `address` ('auto' finds it).

    gpus: of each worker, 0.5 for two workers on one. Each worker is an actor that watches a process of its own.
    """

    limits: Limits = field(default_factory=Limits)
    address: str | None = None
    gpus: float = 0.0

    def __post_init__(self) -> None:
        whole = self.gpus == int(self.gpus) if abs(self.gpus) < 1e6 else False
        if not (0.0 <= self.gpus <= 1.0 or (self.gpus > 1.0 and whole)):
            raise InvalidInput(f"gpus={self.gpus} must be from 0 to 1, or a whole number")

    def threads(self, workers: int, cores: int) -> int:
        """See Engine."""
        return 1

    def trainers(self, workers: int, cores: int) -> int:
        """See Engine."""
        return min(workers, cores)

    def seats(self, workers: int) -> int:
        """See Engine."""
        return _seats(workers, self.limits)

    def crew(self, workspace: Workspace, *, workers: int, load: Callable[[Dataset], Data]) -> WorkerPool:
        """See Engine."""
        from sharpbench.runner.engines.ray import RayPool

        return RayPool(workspace, self.limits, seats=self.seats(workers), address=self.address, gpus=self.gpus)


def _seats(workers: int, limits: Limits) -> int:
    if limits.pieces > workers:
        raise InvalidInput(
            f"split={limits.pieces} exceeds workers={workers}; a cell cannot be divided among more processes"
        )
    return workers // limits.pieces


def make_engine(
    word: str, *, limits: Limits | None = None, address: str | None = None, gpus: float | None = None
) -> Engine:
    """The engine that a word names, with what is given for it; raises InvalidInput for what it cannot use."""
    if word not in get_args(Word):
        raise InvalidInput(f"engine '{short(word)}' is none of {', '.join(get_args(Word))}")
    if word != "ray" and (address is not None or gpus is not None):
        raise InvalidInput(f"{'address' if address is not None else 'gpus'} is for engine 'ray', not '{word}'")
    given = limits or Limits()
    if word == "ray":
        return Ray(given, address, gpus or 0.0)
    if word == "process":
        return Process(given)
    if given != Limits():
        raise InvalidInput("engine 'inline' knows no timeout, memory limit or split; use engine 'process'")
    return Inline()
