"""What the scheduler and the workers of every engine agree on: a pool of workers, and how a cell may end in it.

Nothing here imports torch: a Ray actor that only watches a worker process does without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sharpbench.core.record import Record, Status
from sharpbench.files import Workspace
from sharpbench.processes import exit_words, was_killed

if TYPE_CHECKING:
    from sharpbench.runner.cell import Cell

STARTED = "started"
"""The message of a worker whose network is loaded and whose measure is called next."""
DIVERGED = "the processes that share its batches do not ask for the same sums; measure it without --split"
"""The reason of a process group whose members no longer compute the same thing."""


class WorkerPool(Protocol):
    """Workers that measure cells: `slots` cells at a time."""

    slots: int

    def start(self, slot: int, cell: Cell) -> None:
        """Have the cell measured in the slot, which is free; returns at once."""

    def wait(self) -> list[tuple[int, Record | WorkerDeath]]:
        """Wait until a started cell has ended; the outcomes of those that have, each with its slot."""

    def close(self) -> None:
        """End all workers, also those that measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDeath:
    """A cell whose process ended, or was ended, before its record came.

    Attributes:
        retry: whether it may go better another time.
        started: whether its measure had been called, as far as is known.
        printed: what the process printed.
    """

    status: Status
    reason: str
    retry: bool = False
    started: bool = True
    printed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a worker sends when a cell has ended.

    A measure may fork the worker, and its child may answer also: the key and the process id tell them apart.

    Attributes:
        key: of the cell.
        pid: the process id of the worker.
        reusable: whether the worker is as it was before the cell; otherwise it must be replaced.
    """

    key: str
    pid: int
    outcome: Record | WorkerDeath
    reusable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedCell:
    """A cell as bytes for another process, with its key and the key of its network."""

    key: str
    network: str
    content: bytes


def worker_death(exit_status: int | None) -> WorkerDeath:
    """The death of a worker with that exit status, as multiprocessing reports it."""
    words = exit_words(exit_status)
    if exit_status is not None and exit_status < 0:
        retry = was_killed(exit_status)  # other signals come from what the measure did
        return WorkerDeath(status="failed", reason=f"killed: the process that measured it {words}", retry=retry)
    # multiprocessing reports 255 where the process that starts the workers died, and the true status with it
    return WorkerDeath(status="failed", reason=f"the process that measured it {words}", retry=exit_status == 255)


UNREADABLE = WorkerDeath(
    status="failed", reason="the process that measured it sent bytes that are not an answer", retry=True
)
"""The outcome of a cell in which the worker's pipe was written to by something else, maybe left by an earlier cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What a worker process is started with.

    Attributes:
        memory: the limit of its memory in bytes.
        meeting_file: where the processes of its group find each other; None for a worker without a group.
        rank: its number in the group.
        size: the number of processes in the group.
    """

    workspace: Workspace
    memory: int | None = None
    meeting_file: Path | None = None
    rank: int = 0
    size: int = 1


@dataclass(frozen=True, slots=True)
class CellStarted:
    """Progress: the cell that is measured now."""

    cell: Cell
