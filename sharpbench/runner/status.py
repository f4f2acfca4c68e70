"""Standing: how a run stands, kept beside its records, and read by those who ask."""

from __future__ import annotations

import datetime
import json
import os
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sharpbench.core.jsonl import is_being_written
from sharpbench.core.record import Record, Status
from sharpbench.core.records import RECORDS, iterate_records
from sharpbench.core.spec import format_spec
from sharpbench.errors import InvalidInput
from sharpbench.files import atomic_write
from sharpbench.runner.engines import CellStarted

if TYPE_CHECKING:
    from sharpbench.runner.cell import Cell


# Pace: how long cells take, and from that what is left of a run.

Kind = tuple[str, str, bool]
"""Cells that take about as long as each other: the label of the measure, the population, whether all is asked."""


@dataclass(slots=True)
class _Spent:
    seconds: float = 0.0
    count: int = 0


class EtaEstimator:
    """Told which cells begin and end, it says how many seconds the rest will take.

    A cell is expected to take as long as others of its measure and population did on average; before one of them has
    ended, as those of its measure, or as all. `seats`: how many are measured at a time. clock: seconds.
    """

    def __init__(self, cells: Sequence[Cell], *, seats: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.seats, self.clock = max(1, seats), clock
        self.left = Counter(_kind(cell) for cell in cells)
        self.running: dict[str, tuple[Cell, float]] = {}
        self._spent: defaultdict[tuple[object, ...], _Spent] = defaultdict(_Spent)

    def begin(self, cell: Cell) -> None:
        """The cell begins now."""
        self.running[cell.key] = (cell, self.clock())

    def end(self, key: str) -> None:
        """The cell with that key has its record; one that never began, as its network is lost, is not counted."""
        began = self.running.pop(key, None)
        if began is None:
            return
        cell, since = began
        kind = _kind(cell)
        self.left[kind] -= 1
        for whose in (kind, kind[:1], ()):
            self._spent[whose].seconds += self.clock() - since
            self._spent[whose].count += 1

    @property
    def remaining(self) -> int:
        """Cells without a record, those that are being measured included."""
        return sum(self.left.values())

    def drop(self, cell: Cell) -> None:
        """The cell has its record without having begun."""
        self.left[_kind(cell)] -= 1

    def seconds(self) -> float | None:
        """What is left takes so long; None before any cell has ended."""
        if not self._spent:
            return None
        total = sum(count * self._of(kind) for kind, count in self.left.items() if count > 0)
        now = self.clock()
        total -= sum(min(now - since, self._of(_kind(cell))) for cell, since in self.running.values())
        return max(0.0, total) / min(self.seats, max(1, self.remaining))

    def _of(self, kind: Kind) -> float:
        spent = next(self._spent[whose] for whose in (kind, kind[:1], ()) if whose in self._spent)
        return spent.seconds / spent.count


def _kind(cell: Cell) -> Kind:
    return format_spec(cell.measure), cell.population, cell.timed or cell.checked or cell.rewritten


STATE = "state.json"
EVERY = 1.0
"""Seconds between two notes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCell:
    """A cell that is being measured: the measure, the network, and since when, UTC."""

    measure: str
    network: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """How the run in a folder stands.

    planned: cells of its last command; left: those of them without a record. done: records by status, failed: by
    status and reason, of all cells in the folder, the last of each. alive: whether a run writes there now; running:
    what it measures. seconds: forecast of what is left, None where nothing is known. host, pid: of the last command.
    """

    planned: int | None
    left: int | None
    done: dict[str, int]
    failed: tuple[tuple[Status, str, int], ...]
    alive: bool
    running: tuple[RunningCell, ...]
    seconds: float | None
    updated: str | None
    host: str | None
    pid: int | None
    shard: str | None


class StatusFile:
    """Keeps the file of a run's standing: a note a second while things happen, and one at the end, each in one rename.

    A folder where it cannot be written goes without: records matter, notes do not.
    """

    def __init__(self, folder: Path, *, planned: int, left: Sequence[Cell], seats: int, shard: str | None) -> None:
        self.path, self.planned, self.shard = folder / STATE, planned, shard
        self.pace = EtaEstimator(left, seats=seats)
        self.waiting = {cell.key: cell for cell in left}
        self._since: dict[str, str] = {}
        self._held = threading.RLock()
        self._later: threading.Timer | None = None
        self._noted = 0.0
        self.note()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.note()

    def take(self, event: object) -> None:
        """Take in an event of the run. What comes within a second of the last note is noted when that is over."""
        with self._held:
            self._take(event)
            due = self._noted + EVERY - time.monotonic()
            if due <= 0:
                self.note()
            elif self._later is None:
                self._later = threading.Timer(due, self.note)
                self._later.daemon = True
                self._later.start()

    def _take(self, event: object) -> None:
        if isinstance(event, CellStarted):
            self.pace.begin(event.cell)
            self._since[event.cell.key] = _now()
        elif isinstance(event, Record):
            cell = self.waiting.pop(event.key, None)
            if event.key in self._since:
                del self._since[event.key]
                self.pace.end(event.key)
            elif cell is not None:
                self.pace.drop(cell)

    def note(self) -> None:
        """Write how things stand."""
        with self._held:
            if self._later is not None:
                self._later.cancel()
                self._later = None
            self._note()

    def _note(self) -> None:
        self._noted = time.monotonic()
        seconds = self.pace.seconds()
        row = {
            "planned": self.planned,
            "left": self.pace.remaining,
            "seconds": None if seconds is None else round(seconds, 1),
            "running": [
                asdict(
                    RunningCell(measure=format_spec(cell.measure), network=cell.recipe.title, since=self._since[key])
                )
                for key, (cell, _) in self.pace.running.items()
            ],
            "updated": _now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "shard": self.shard,
        }
        with suppress(OSError):
            atomic_write(self.path, json.dumps(row, indent=1) + "\n")


def read_status(folder: Path) -> RunStatus:
    """How the run in `folder` stands. Raises InvalidInput where there is none, or what is there cannot be read."""
    path = folder / RECORDS
    if not path.exists():
        raise InvalidInput(f"no records at {path}; name the folder that --output of `sharpbench run` named")
    last: dict[str, tuple[Status, str | None]] = {}
    for record in iterate_records(path, whole=True):
        last[record.key] = (record.status, record.reason)
    lost = Counter((status, reason or "") for status, reason in last.values() if status != "ok")
    row = _noted(folder / STATE)
    alive = is_being_written(path)
    return RunStatus(
        planned=row.get("planned"),
        left=row.get("left"),
        done=dict(Counter(status for status, _ in last.values())),
        failed=tuple((status, reason, count) for (status, reason), count in lost.most_common()),
        alive=alive,
        running=tuple(_running(row)) if alive else (),
        seconds=row.get("seconds"),
        updated=row.get("updated"),
        host=row.get("host"),
        pid=row.get("pid"),
        shard=row.get("shard"),
    )


TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("planned", "left", "pid"), (int,)),
    "seconds": (int, float),
    **dict.fromkeys(("updated", "host", "shard"), (str,)),
}


def _noted(path: Path) -> dict[str, Any]:
    """What is noted, as far as it has the types that it must have; nothing where there is no note."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"cannot read {path}: {error}; delete it, the next run writes it anew") from None
    if not isinstance(row, dict):
        return {}
    sound = {name: row.get(name) for name, types in TYPES.items() if isinstance(row.get(name), types)}
    return {**sound, "running": row.get("running")}


def _running(row: dict[str, Any]) -> Iterator[RunningCell]:
    for each in row["running"] if isinstance(row.get("running"), list) else ():
        if isinstance(each, dict) and all(isinstance(each.get(name), str) for name in RunningCell.__slots__):
            yield RunningCell(**{name: each[name] for name in RunningCell.__slots__})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
