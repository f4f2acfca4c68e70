"""What every process that measures is given, and the limits that it keeps to."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sharpbench.errors import InvalidInput, short
from sharpbench.files import Workspace

if TYPE_CHECKING:
    from sharpbench.core.record import Record
    from sharpbench.runner.cell import Cell
    from sharpbench.runner.failures import WorkerDeath

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
MIN_MEMORY_BYTES = 2**29
"""Bytes that a process takes before it measures anything, with room to spare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a cell may take: seconds, and bytes of memory of a process; None is no limit.

    pieces: among how many processes the batches of every cell are divided.
    """

    timeout: float | None = None
    memory: int | None = None
    pieces: int = 1

    def __post_init__(self) -> None:
        if self.timeout is not None and not (math.isfinite(self.timeout) and self.timeout > 0):
            raise InvalidInput(f"timeout={self.timeout} must be a number of seconds above 0")
        if self.memory is not None and self.memory < MIN_MEMORY_BYTES:
            raise InvalidInput(
                f"memory limit {self.memory} must be at least {MIN_MEMORY_BYTES} bytes, which torch alone may take"
            )
        if self.pieces < 1:
            raise InvalidInput(f"split={self.pieces} must be at least 1")


def parse_bytes(text: str) -> int:
    """The bytes that '2GiB', '500MB' or '1000000000' names; raises InvalidInput for anything else."""
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)", text)
    if found is None or found[2] not in UNITS:
        raise InvalidInput(f"memory limit '{short(text)}' is no size; write 2GiB, or 500MB")
    return int(float(found[1]) * UNITS[found[2]])


def format_bytes(count: int) -> str:
    """Bytes in GiB."""
    return f"{count / 2**30:.3g} GiB"


# Duty: what a worker is started with, and how it starts; known to those who watch it without torch.

BEGUN = "begun"
"""What a worker says when the network is there and the measure is next."""
APART = "the processes that share its batches do not ask for the same sums; measure it without --split"
"""What a team says whose members have lost each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What a worker is started with. memory: the limit in bytes; place, rank, size: of its team, where it has one."""

    workspace: Workspace
    memory: int | None = None
    place: Path | None = None
    rank: int = 0
    size: int = 1


@dataclass(frozen=True, slots=True)
class CellStarted:
    """Progress: the cell that begins."""

    cell: Cell


class WorkerPool(Protocol):
    """Those who measure: `seats` of them, one cell at a time each."""

    seats: int

    def begin(self, seat: int, cell: Cell) -> None:
        """Have the cell measured by the one at `seat`, who waits; returns at once."""

    def finished(self) -> list[tuple[int, Record | WorkerDeath]]:
        """Wait until a cell that was begun has ended; those that have, by their seats."""

    def close(self) -> None:
        """End all of it, what is being measured too."""
