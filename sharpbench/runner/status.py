"""How far a run is: kept next to its records while it runs, and read by `sharpbench status`."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sharpbench.analysis.costs import Failure, count_failures
from sharpbench.core.fields import field_error
from sharpbench.core.jsonl import is_being_written
from sharpbench.core.record import Record, Status, utc_now
from sharpbench.core.records import RECORDS, iterate_records
from sharpbench.core.spec import format_spec
from sharpbench.errors import InvalidInput
from sharpbench.files import atomic_write, check_plain_file
from sharpbench.runner.engines.pool import CellStarted

if TYPE_CHECKING:
    from sharpbench.runner.cell import Cell, Shard

STATUS_FILE = "state.json"
WRITE_INTERVAL_SECONDS = 1.0
"""Time between two updates of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCell:
    """A cell that is being measured: the measure, the network, and since when in UTC."""

    measure: str
    network: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """How far the run in a folder is.

    Attributes:
        planned: the number of cells of its last command.
        left: the number of those without a record.
        done: how many cells of the folder ended with which status, by their last record.
        failed: status, reason and number of the cells without a value; also of those without a check that failed.
        alive: whether a run writes into the folder now.
        running: the cells that it measures.
        seconds: the estimated time of the rest, as `EtaEstimator.seconds`; None where nothing is known.
        training_included: whether that time includes the training of the networks that are left.
        host, pid: of the last command.
    """

    planned: int | None
    left: int | None
    done: dict[str, int]
    failed: tuple[tuple[str, str, int], ...]
    alive: bool
    running: tuple[RunningCell, ...]
    seconds: float | None
    training_included: bool
    updated: str | None
    host: str | None
    pid: int | None
    shard: str | None


class StatusFile:
    """Keeps the file that says how far a run is: replaced once a second while things happen, and at the end.

    A folder where it cannot be written goes without: only the records matter.
    """

    def __init__(self, folder: Path, left: Sequence[Cell], *, planned: int, slots: int, shard: Shard | None) -> None:
        """Args: the run's folder; its cells without a record; how many it has; how many are measured at a time."""
        from sharpbench.runner.eta import EtaEstimator  # it needs torch, which reading the file does not

        self._path, self._planned, self._shard = folder / STATUS_FILE, planned, shard
        self._eta = EtaEstimator(left, slots=slots)
        self._since: dict[str, str] = {}
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._written = 0.0
        self.write()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.write()

    def update(self, event: object) -> None:
        """Take in an event of the run; it is written at once, or when a second has passed since the last update."""
        with self._lock:
            self._take(event)
            due = self._written + WRITE_INTERVAL_SECONDS - time.monotonic()
            if due <= 0:
                self.write()
            elif self._timer is None:
                self._timer = threading.Timer(due, self.write)
                self._timer.daemon = True
                self._timer.start()

    def write(self) -> None:
        """Replace the file."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._written = time.monotonic()
            with suppress(OSError):
                atomic_write(self._path, json.dumps(self._row(), indent=1) + "\n")

    def _take(self, event: object) -> None:
        self._eta.update(event)
        if isinstance(event, CellStarted):
            self._since[event.cell.key] = utc_now()
        elif isinstance(event, Record):
            self._since.pop(event.key, None)

    def _row(self) -> dict[str, Any]:
        seconds = self._eta.seconds()
        running = [
            RunningCell(measure=format_spec(cell.measure), network=cell.recipe.title, since=self._since[cell.key])
            for cell in self._eta.running
        ]
        return {
            "planned": self._planned,
            "left": self._eta.remaining,
            "seconds": None if seconds is None else round(seconds, 1),
            "training_included": self._eta.training_included,
            "running": [asdict(cell) for cell in running],
            "updated": utc_now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "shard": None if self._shard is None else str(self._shard),
        }


def read_status(folder: Path) -> RunStatus:
    """How far the run in `folder` is.

    Raises InvalidInput where there is none, or a file of it cannot be read.
    """
    path = folder / RECORDS
    if not path.exists():
        raise InvalidInput(f"no records at {path}; name the folder that --output of `sharpbench run` named")
    last: dict[str, tuple[Status, tuple[Failure, ...]]] = {}
    for record in iterate_records(path, whole=True):
        last[record.key] = record.status, count_failures([record])
    lost = Counter((each.status, each.reason) for _, failures in last.values() for each in failures)
    row = _read_row(folder / STATUS_FILE)
    alive = is_being_written(path)
    return RunStatus(
        planned=row.get("planned"),
        left=row.get("left"),
        done=dict(Counter(status for status, _ in last.values())),
        failed=tuple((status, reason, count) for (status, reason), count in lost.most_common()),
        alive=alive,
        running=tuple(_running_cells(row)) if alive else (),
        seconds=row.get("seconds"),
        training_included=row.get("training_included", False),
        updated=row.get("updated"),
        host=row.get("host"),
        pid=row.get("pid"),
        shard=row.get("shard"),
    )


FIELD_TYPES: dict[str, type] = {
    **dict.fromkeys(("planned", "left", "pid"), int),
    "seconds": float,
    "training_included": bool,
    **dict.fromkeys(("updated", "host", "shard"), str),
}


def _read_row(path: Path) -> dict[str, Any]:
    """The row in the file, without fields of another type than they must have; empty where there is no file."""
    try:
        check_plain_file(path)
        row = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except InvalidInput:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"cannot read {path}: {error}; delete it, the next run writes it anew") from None
    if not isinstance(row, dict):
        return {}
    sound = {name: row[name] for name, kind in FIELD_TYPES.items() if name in row and not field_error(row[name], kind)}
    return {**sound, "running": row.get("running")}


def _running_cells(row: dict[str, Any]) -> Iterator[RunningCell]:
    for each in row["running"] if isinstance(row.get("running"), list) else ():
        if isinstance(each, dict) and all(isinstance(each.get(name), str) for name in RunningCell.__slots__):
            yield RunningCell(**{name: each[name] for name in RunningCell.__slots__})
