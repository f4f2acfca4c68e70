"""The choice of an engine: cells are measured in this process, in worker processes, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from sharpbench.core.record import Record
from sharpbench.datasets.dataset import Data
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import Workspace
from sharpbench.runner.cell import Cell
from sharpbench.runner.engines.limits import Limits
from sharpbench.runner.engines.pool import WorkerDeath, WorkerPool
from sharpbench.runner.engines.process import ProcessPool
from sharpbench.runner.engines.ray import RayPool
from sharpbench.runner.evaluate_cell import CellEvaluator
from sharpbench.training.recipe import Recipe

EngineName = Literal["inline", "process", "ray"]


class Engine(Protocol):
    """Where cells are measured, with its settings: a frozen value."""

    def threads(self, workers: int, cores: int) -> int:
        """The number of torch's threads in each process that measures, where none is given."""

    def trainers(self, workers: int, cores: int) -> int:
        """The number of processes that train, on this machine."""

    def slots(self, workers: int) -> int:
        """How many cells `workers` processes measure at a time; InvalidInput where they are too few for one."""

    def pool(self, workspace: Workspace, *, workers: int, load: Callable[[Recipe], Data]) -> WorkerPool:
        """The pool of `workers` processes that measures. load: loads the data of a recipe in this process."""


@dataclass(frozen=True, slots=True)
class Inline:
    """Measures in this process without limits; a measure that ends the process ends the run."""

    def threads(self, workers: int, cores: int) -> int:
        """See Engine."""
        return cores

    def trainers(self, workers: int, cores: int) -> int:
        """See Engine."""
        return workers

    def slots(self, workers: int) -> int:
        """See Engine."""
        return InlinePool.slots

    def pool(self, workspace: Workspace, *, workers: int, load: Callable[[Recipe], Data]) -> WorkerPool:
        """See Engine."""
        return InlinePool(CellEvaluator(workspace, load))


@dataclass(frozen=True, slots=True)
class Process:
    """Measures in worker processes on this machine, which are watched; see `ProcessPool`."""

    limits: Limits = field(default_factory=Limits)

    def threads(self, workers: int, cores: int) -> int:
        """See Engine."""
        return max(1, cores // workers)

    def trainers(self, workers: int, cores: int) -> int:
        """See Engine."""
        return workers

    def slots(self, workers: int) -> int:
        """See Engine."""
        return _slots(workers, self.limits)

    def pool(self, workspace: Workspace, *, workers: int, load: Callable[[Recipe], Data]) -> WorkerPool:
        """See Engine."""
        pool = ProcessPool(workspace, self.limits, slots=self.slots(workers))
        pool.start_server()
        return pool


@dataclass(frozen=True, slots=True)
class Ray:
    """Measures on a Ray cluster: one that is started here, or the one at `address` ('auto' finds it).

    gpus: GPUs of each worker; 0.5 puts two workers on one. Each worker is an actor that watches its own process.
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

    def slots(self, workers: int) -> int:
        """See Engine."""
        return _slots(workers, self.limits)

    def pool(self, workspace: Workspace, *, workers: int, load: Callable[[Recipe], Data]) -> WorkerPool:
        """See Engine."""
        return RayPool(workspace, self.limits, slots=self.slots(workers), address=self.address, gpus=self.gpus)


def default_engine(left: Sequence[Cell]) -> EngineName:
    """The engine where none is given: a single cell is not worth starting a process."""
    return "process" if len(left) > 1 else "inline"


def default_gpus(name: str, left: Sequence[Cell]) -> float | None:
    """GPUs of each worker where nothing is said: 1 on Ray where cells are for CUDA."""
    return 1.0 if name == "ray" and any(cell.setting.device == "cuda" for cell in left) else None


def make_engine(
    name: str, *, limits: Limits | None = None, address: str | None = None, gpus: float | None = None
) -> Engine:
    """The engine of that name with its settings. Raises InvalidInput for settings that it does not have."""
    if name not in get_args(EngineName):
        raise InvalidInput(f"engine '{shorten(name)}' is none of {', '.join(get_args(EngineName))}")
    if name != "ray" and (address is not None or gpus is not None):
        option = "gpus" if address is None else "address"
        raise InvalidInput(f"{option} is for engine 'ray', not '{name}'; choose ray, or leave it out")
    given = limits or Limits()
    if name == "ray":
        return Ray(given, address, gpus or 0.0)
    if name == "process":
        return Process(given)
    if given != Limits():
        raise InvalidInput("engine 'inline' knows no timeout, memory limit or split; use engine 'process'")
    return Inline()


class InlinePool:
    """The pool whose only worker is this process."""

    slots = 1

    def __init__(self, evaluator: CellEvaluator) -> None:
        self._evaluator = evaluator
        self._cell: Cell | None = None
        self._lasting = ""

    def start(self, slot: int, cell: Cell) -> None:
        """See WorkerPool; the cell is measured by `wait`.

        Raises InvalidInput where an earlier measure left what this process cannot undo.
        """
        if self._lasting:
            raise InvalidInput(self._lasting)
        self._cell = cell

    def wait(self) -> list[tuple[int, Record | WorkerDeath]]:
        """See WorkerPool."""
        if self._cell is None:
            raise RuntimeError("no cell was started")
        cell, self._cell = self._cell, None
        record = self._evaluator.evaluate(cell)
        if lasting := self._evaluator.side_effects.lasting:
            changed = f"measure '{shorten(record.label)}' changed {', '.join(lasting[:3])}"
            remedy = "give the same command again with --engine process"
            self._lasting = f"{changed}, which this process cannot undo; {remedy}"
        return [(0, record)]

    def close(self) -> None:
        """See WorkerPool."""
        self._cell = None


def _slots(workers: int, limits: Limits) -> int:
    if limits.pieces > workers:
        raise InvalidInput(
            f"split={limits.pieces} exceeds workers={workers}; a cell cannot be divided among more processes"
        )
    return workers // limits.pieces
