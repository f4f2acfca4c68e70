"""How long the rest of a run takes, estimated from what it has done so far."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharpbench.core.record import Record
from sharpbench.core.spec import format_spec
from sharpbench.runner.engines.pool import CellStarted
from sharpbench.runner.networks import UntrainedNetworks
from sharpbench.training.population import TrainingEpoch

if TYPE_CHECKING:
    from sharpbench.runner.cell import Cell
    from sharpbench.runner.foreign.network import ForeignNetwork
    from sharpbench.training.recipe import Recipe

CellKind = tuple[str, str, bool]
"""Cells that take about the same time: the label of the measure, the population, whether there are checks."""


@dataclass(slots=True)
class _TotalTime:
    seconds: float = 0.0
    count: int = 0

    def add(self, seconds: float, count: int = 1) -> None:
        self.seconds += seconds
        self.count += count


class EtaEstimator:
    """Estimates how long the rest of a run takes, from its events.

    A cell is expected to take as long as others of its measure and population did on average; before one of them has
    ended, as long as those of its measure, or as all. A network is expected to train as long as those did on average
    that this run has trained.
    """

    def __init__(self, cells: Sequence[Cell], *, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: the cells that are left, how many of them are measured at a time, and a clock in seconds."""
        self._slots, self._clock = max(1, slots), clock
        self._waiting = {cell.key: cell for cell in cells}
        self._left = Counter(_kind(cell) for cell in cells)
        self._running: dict[str, tuple[Cell, float]] = {}
        self._spent: defaultdict[tuple[object, ...], _TotalTime] = defaultdict(_TotalTime)
        self._untrained: set[Recipe | ForeignNetwork] = set()
        self._in_training: set[Recipe | ForeignNetwork] = set()
        self._training = _TotalTime()
        self._idle_since = clock()

    @property
    def remaining(self) -> int:
        """The number of cells without a record, those that are being measured included."""
        return len(self._waiting)

    @property
    def running(self) -> list[Cell]:
        """The cells that are being measured."""
        return [cell for cell, _ in self._running.values()]

    def update(self, event: object) -> None:
        """Take in an event of the run."""
        if isinstance(event, UntrainedNetworks):
            self._untrained |= event.recipes
        elif isinstance(event, TrainingEpoch):
            self._in_training.add(event.recipe)
        elif isinstance(event, CellStarted):
            self._end_training()
            self._running[event.cell.key] = (event.cell, self._clock())
        elif isinstance(event, Record):
            self._end_cell(event.key)
            self._idle_since = self._clock()

    @property
    def training_included(self) -> bool:
        """Whether `seconds` includes the training of the networks that are left."""
        return not self._untrained or self._training.count > 0

    def seconds(self) -> float | None:
        """The time that the rest takes; None before any cell has ended.

        It is without training, where networks are left to train and this run has trained none so far.
        """
        if not self._spent:
            return None
        now = self._clock()
        measuring = sum(count * self._expected(kind) for kind, count in self._left.items() if count > 0)
        measuring -= sum(min(now - since, self._expected(_kind(cell))) for cell, since in self._running.values())
        return max(0.0, measuring) / min(self._slots, max(1, self.remaining)) + self._training_seconds(now)

    def _training_seconds(self, now: float) -> float:
        if not self._training.count:
            return 0.0
        expected = self._training.seconds / self._training.count * len(self._untrained)
        return max(0.0, expected - (now - self._idle_since if self._in_training else 0.0))

    def _end_training(self) -> None:
        """The networks that were in training are trained, since a cell starts."""
        if self._in_training:
            self._training.add(self._clock() - self._idle_since, len(self._in_training))
            self._untrained -= self._in_training
            self._in_training.clear()

    def _end_cell(self, key: str) -> None:
        """The cell has its record; one that never started, as its network is lost, tells nothing about the time."""
        cell = self._waiting.pop(key, None)
        if cell is None:
            return
        kind = _kind(cell)
        self._left[kind] -= 1
        if key not in self._running:
            self._untrained.discard(cell.recipe)
            self._in_training.discard(cell.recipe)
            return
        _, since = self._running.pop(key)
        for wider in (kind, kind[:1], ()):
            self._spent[wider].add(self._clock() - since)

    def _expected(self, kind: CellKind) -> float:
        spent = next(self._spent[wider] for wider in (kind, kind[:1], ()) if wider in self._spent)
        return spent.seconds / spent.count


def _kind(cell: Cell) -> CellKind:
    checks = cell.checks
    return format_spec(cell.measure), cell.population, checks.timed or checks.compared or checks.rewritten
