"""The scheduler: gives the cells of one network after the other to a pool of workers, with one record per cell."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Protocol

from sharpbench.core.record import Record
from sharpbench.errors import InvalidInput
from sharpbench.runner.cell import Cell
from sharpbench.runner.engines.pool import CellStarted, WorkerDeath, WorkerPool
from sharpbench.runner.failures import unfinished_record
from sharpbench.training.population import TrainingProgress

SAME_NETWORK = attrgetter("recipe", "data_sha256", "examples", "setting.dtype", "setting.device")
"""What the cells of one network have in common, as `Cell.network`; the same objects are compared in no time."""
MAX_RETRIES = 3
"""How often a cell is measured again whose process was killed while its measure ran."""
MAX_START_RETRIES = 20
"""How often a cell is started again whose process was killed before its measure, or at an unknown point."""

RecordMaker = Callable[[Cell], Record]


class Networks(Protocol):
    """Where the networks of the cells come from."""

    def prepare(self, cell: Cell) -> Generator[TrainingProgress, None, RecordMaker]:
        """Make the network of a cell available, training it if needed; returns what makes its cells' empty records."""

    def lost_record(self, cell: Cell, error: Exception) -> Record:
        """The record of a cell whose network could not be made available."""


def schedule(
    cells: Sequence[Cell], pool: WorkerPool, networks: Networks
) -> Iterator[TrainingProgress | CellStarted | Record]:
    """The records of the cells as they come, each once, and before each the event that its cell starts.

    The cells of one network stay together, in their order, in one slot. Networks with timed cells come first, and
    while one of them is measured nothing else is, so that no time is taken next to other work of this run. A cell
    whose process dies has a record that says so, or is measured again where the process was killed from outside; the
    rest of its network goes on.
    """
    groups = [deque(group) for _, group in groupby(cells, key=SAME_NETWORK)]
    waiting = deque(groups if pool.slots == 1 else sorted(groups, key=lambda group: not _is_timed(group)))
    active: dict[int, _Slot] = {}
    while waiting or active:
        while waiting and len(active) < pool.slots and not _must_wait(waiting[0], active):
            group = waiting.popleft()
            timed = _is_timed(group)
            try:
                make_record = yield from networks.prepare(group[0])
            except InvalidInput:  # a cache that cannot be written: no other network could be kept either
                raise
            except Exception as error:  # a network that cannot be trained costs its own cells
                yield from (networks.lost_record(cell, error) for cell in group)
                continue
            number = next(number for number in range(pool.slots) if number not in active)
            active[number] = _Slot(group, make_record, timed)
            yield CellStarted(group[0])
            pool.start(number, group[0])
        if not active:
            continue
        for number, outcome in pool.wait():
            yield from _finish_cell(number, outcome, active, pool)


@dataclass(slots=True)
class _Slot:
    """The cells of a slot, the one that is measured first, and how often its process was killed.

    kills: while its measure ran; start_kills: before that, or at an unknown point.
    """

    cells: deque[Cell]
    make_record: RecordMaker
    timed: bool
    kills: int = 0
    start_kills: int = 0


def _finish_cell(
    number: int, outcome: Record | WorkerDeath, active: dict[int, _Slot], pool: WorkerPool
) -> Iterator[CellStarted | Record]:
    """The record of the cell that ended in a slot, and the start of the next; or another start of the same cell."""
    slot = active[number]
    if isinstance(outcome, WorkerDeath) and outcome.retry:
        slot.kills, slot.start_kills = slot.kills + outcome.started, slot.start_kills + (not outcome.started)
        if slot.kills <= MAX_RETRIES and slot.start_kills <= MAX_START_RETRIES:
            pool.start(number, slot.cells[0])
            return
    yield outcome if isinstance(outcome, Record) else _death_record(slot, outcome)
    slot.cells.popleft()
    slot.kills = slot.start_kills = 0
    if not slot.cells:
        del active[number]
        return
    yield CellStarted(slot.cells[0])
    pool.start(number, slot.cells[0])


def _death_record(slot: _Slot, death: WorkerDeath) -> Record:
    times = slot.kills + slot.start_kills
    reason = f"{death.reason}, {times} times" if death.retry else death.reason
    cell = slot.cells[0]
    record = unfinished_record(slot.make_record(cell), death.status, reason, checks=cell.checks.names)
    return replace(record, printed=death.printed or record.printed)


def _is_timed(group: Sequence[Cell]) -> bool:
    return any(cell.checks.timed for cell in group)


def _must_wait(group: Sequence[Cell], active: dict[int, _Slot]) -> bool:
    """Whether the group must wait: it is timed and others are measured, or a timed one is measured."""
    return bool(active) and (_is_timed(group) or any(slot.timed for slot in active.values()))
