"""The limits of a cell: seconds, bytes of memory, and among how many processes its batches are divided."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sharpbench.errors import InvalidInput, shorten

BYTES_PER_UNIT = {
    "": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
MIN_MEMORY_BYTES = 2**29
"""What a process takes before it measures anything, with room to spare."""
MAX_MEMORY_BYTES = 2**60
"""An exbibyte; the system holds limits in 63 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a cell may take; None means without a limit.

    Attributes:
        timeout: seconds of one cell, with all its checks.
        memory: bytes that each process may hold.
        pieces: the number of processes among which the batches of every cell are divided.
    """

    timeout: float | None = None
    memory: int | None = None
    pieces: int = 1

    def __post_init__(self) -> None:
        if self.timeout is not None and not (math.isfinite(self.timeout) and self.timeout > 0):
            raise InvalidInput(f"timeout={self.timeout} must be a number of seconds above 0")
        if self.memory is not None and not MIN_MEMORY_BYTES <= self.memory <= MAX_MEMORY_BYTES:
            raise InvalidInput(
                f"memory limit {self.memory} must be at least {MIN_MEMORY_BYTES} bytes, which torch itself may take, "
                f"and at most {MAX_MEMORY_BYTES}; leave it out for none"
            )
        if self.pieces < 1:
            raise InvalidInput(f"split={self.pieces} must be at least 1")


def parse_bytes(text: str) -> int:
    """The number of bytes of a size such as '2GiB', '500MB' or '1000000000'.

    Raises InvalidInput for anything else.

    >>> parse_bytes("1.5 KiB")
    1536
    """
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)", text)
    if found is None or found[2] not in BYTES_PER_UNIT:
        raise InvalidInput(f"memory limit '{shorten(text)}' is not a size; write 2GiB, or 500MB")
    return int(float(found[1]) * BYTES_PER_UNIT[found[2]])


def format_bytes(count: int) -> str:
    """A number of bytes in GiB, as text."""
    return f"{count / 2**30:.3g} GiB"
