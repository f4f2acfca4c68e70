"""How long the rest of a run takes, estimated from what it has done so far."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

    def add(self, seconds: float) -> None:
        self.seconds += seconds
        self.count += 1


class EtaEstimator:
    """Estimates how long the rest of a run takes, from its events.

    A cell is expected to take as long as others of its measure and population did on average; before one of them has
    ended, as long as those of its measure, or as all. A network is expected to train as long as those of its population
    did on average that this run has trained; before one of them is trained, as long as all. Where a group holds other
    networks also, such as those of another shard, their time is shared among the networks of this run.
    """

    def __init__(self, cells: Sequence[Cell], *, slots: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Args: the cells that are left, how many of them are measured at a time, and a clock in seconds."""
        self._slots, self._clock = max(1, slots), clock
        self._waiting = {cell.key: cell for cell in cells}
        self._left = Counter(_kind(cell) for cell in cells)
        self._running: dict[str, tuple[Cell, float]] = {}
        self._spent: defaultdict[tuple[object, ...], _TotalTime] = defaultdict(_TotalTime)
        self._untrained: dict[Recipe | ForeignNetwork, str] = {}
        self._in_training: dict[Recipe | ForeignNetwork, str] = {}
        self._trained: defaultdict[tuple[str, ...], _TotalTime] = defaultdict(_TotalTime)
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
            for recipe, population in event.populations.items():
                self._untrained[recipe] = population
        elif isinstance(event, TrainingEpoch):
            if event.recipe in self._untrained:
                self._in_training[event.recipe] = self._untrained[event.recipe]
        elif isinstance(event, CellStarted):
            self._end_training(event.cell)
            self._running[event.cell.key] = (event.cell, self._clock())
        elif isinstance(event, Record):
            self._end_cell(event.key)
            self._idle_since = self._clock()

    @property
    def training_included(self) -> bool:
        """Whether `seconds` includes the training of the networks that are left."""
        return not self._untrained or bool(self._trained)

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
        if not self._trained:
            return 0.0
        begun = self._expected_training(self._in_training.values())
        return self._expected_training(self._untrained.values()) - min(now - self._idle_since, begun)

    def _expected_training(self, populations: Iterable[str]) -> float:
        """The time of as many networks as there are names of their populations."""
        return sum(count * _mean(self._trained, (name,), ()) for name, count in Counter(populations).items())

    def _end_training(self, cell: Cell) -> None:
        """Since the cell starts, its network is trained, and so are those that were in training.

        There was no epoch of its network where another run has trained it, or where the training of its group went on
        from a checkpoint in which it had ended.
        """
        share = (self._clock() - self._idle_since) / max(1, len(self._in_training))
        for network, population in self._in_training.items():
            for wider in ((population,), ()):
                self._trained[wider].add(share)
            del self._untrained[network]
        self._in_training.clear()
        self._untrained.pop(cell.recipe, None)

    def _end_cell(self, key: str) -> None:
        """The cell has its record; one that never started, as its network is lost, tells nothing about the time."""
        cell = self._waiting.pop(key, None)
        if cell is None:
            return
        kind = _kind(cell)
        self._left[kind] -= 1
        if key not in self._running:
            self._untrained.pop(cell.recipe, None)
            self._in_training.pop(cell.recipe, None)
            return
        _, since = self._running.pop(key)
        for wider in (kind, kind[:1], ()):
            self._spent[wider].add(self._clock() - since)

    def _expected(self, kind: CellKind) -> float:
        return _mean(self._spent, kind, kind[:1], ())


def _mean(times: Mapping[tuple[Any, ...], _TotalTime], *keys: tuple[Any, ...]) -> float:
    """The mean time at the first of the keys that has one."""
    total = next(times[key] for key in keys if key in times)
    return total.seconds / total.count


def _kind(cell: Cell) -> CellKind:
    checks = cell.checks
    return format_spec(cell.measure), cell.population, checks.timed or checks.compared or checks.rewritten
