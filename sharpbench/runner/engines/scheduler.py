"""Schedule: the groups of cells of one network, given to a crew; one record a cell."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter

from sharpbench.core.record import Record
from sharpbench.errors import InvalidInput
from sharpbench.runner.cell import Cell
from sharpbench.runner.engines.base import CellStarted, WorkerPool
from sharpbench.runner.failures import WorkerDeath
from sharpbench.training.population import TrainingEpoch

NETWORK = attrgetter("recipe", "data_sha256", "examples", "dtype", "device")
"""What cells have in common that share a subject, as `Cell.network`; the same objects are compared in no time."""
AGAIN = 3
"""How often a cell is measured again whose process was killed."""
STARTS = 20
"""How often it is tried again where the process was killed before the measure began, or nobody knows."""


Ready = Callable[[Cell], Generator[TrainingEpoch, None, Callable[[Cell], Record]]]
"""Makes the network of a cell ready, training it where it must; returns what makes the empty records of its cells."""
Lost = Callable[[Cell, Exception], Record]


def schedule(
    cells: Sequence[Cell], crew: WorkerPool, *, ready: Ready, lost: Lost
) -> Iterator[TrainingEpoch | CellStarted | Record]:
    """The records of the cells as they come, each once, and before each what begins.

    The cells of one network stay together, in their order, at one seat. Networks whose cells are timed come first, and
    while one is measured nothing else is, so that no time is taken beside other work of ours. A cell whose process
    dies has a record that says so, or is measured again where it was killed from outside; the rest of its network goes
    on. lost: the record of a cell whose network could not be made ready.
    """
    groups = [deque(group) for _, group in groupby(cells, key=NETWORK)]
    waiting = deque(groups if crew.seats == 1 else sorted(groups, key=lambda group: not _alone(group)))
    active: dict[int, _Place] = {}
    while waiting or active:
        while waiting and len(active) < crew.seats and not _blocked(waiting[0], active):
            group = waiting.popleft()
            alone = _alone(group)
            try:
                empty = yield from ready(group[0])
            except InvalidInput:  # a cache that cannot be written: no other network could be kept either
                raise
            except Exception as error:  # a network that cannot be trained costs its own cells
                yield from (lost(cell, error) for cell in group)
                continue
            seat = next(seat for seat in range(crew.seats) if seat not in active)
            active[seat] = _Place(group, empty, alone)
            yield CellStarted(group[0])
            crew.begin(seat, group[0])
        if not active:
            continue
        for seat, outcome in crew.finished():
            yield from _ended(seat, outcome, active, crew)


@dataclass(slots=True)
class _Place:
    """A seat's cells still to do, the one in flight first; how often that one was killed, before it began or after."""

    cells: deque[Cell]
    empty: Callable[[Cell], Record]
    alone: bool
    killed: int = 0
    unbegun: int = 0


def _ended(
    seat: int, outcome: Record | WorkerDeath, active: dict[int, _Place], crew: WorkerPool
) -> Iterator[CellStarted | Record]:
    place = active[seat]
    cell = place.cells[0]
    if isinstance(outcome, WorkerDeath) and outcome.again:
        place.killed, place.unbegun = place.killed + outcome.begun, place.unbegun + (not outcome.begun)
        if place.killed <= AGAIN and place.unbegun <= STARTS:
            crew.begin(seat, cell)
            return
    yield outcome if isinstance(outcome, Record) else _dead(place, outcome)
    place.cells.popleft()
    place.killed = place.unbegun = 0
    if not place.cells:
        del active[seat]
        return
    yield CellStarted(place.cells[0])
    crew.begin(seat, place.cells[0])


def _dead(place: _Place, outcome: WorkerDeath) -> Record:
    times = place.killed + place.unbegun
    reason = f"{outcome.reason}, {times} times" if outcome.again else outcome.reason
    empty = place.empty(place.cells[0])
    return replace(empty, status=outcome.status, reason=reason, printed=outcome.printed)


def _alone(group: Sequence[Cell]) -> bool:
    return any(cell.timed for cell in group)


def _blocked(group: Sequence[Cell], active: dict[int, _Place]) -> bool:
    """Whether the group must wait: it is timed and others are measured, or one that is timed is."""
    return bool(active) and (_alone(group) or any(place.alone for place in active.values()))
