"""Outcome: how a cell ended that did not come back with a record; and the contract of those who measure."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace

import torch

from sharpbench.core.measure import NotApplicable
from sharpbench.core.record import MAX_CAUSE_CHARS, Record, Status
from sharpbench.errors import InvalidInput, cut

ENDS = 1000
"""So many bytes of what a measure printed are kept of its beginning, and of its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDeath:
    """A cell whose process ended before its record came, or was ended.

    again: it may go better another time. begun: its measure had begun, as far as is known.
    """

    status: Status
    reason: str
    again: bool = False
    begun: bool = True
    printed: str | None = None


def death_of(status: int | None) -> WorkerDeath:
    """What the exit status of a process says, as multiprocessing gives it."""
    if status is not None and status < 0:
        killed = -status == signal.SIGKILL
        return WorkerDeath(
            status="failed",
            reason=f"killed: the process that measured it ended by {_signal(-status)}",
            again=killed,  # by the system where memory ran out, or by hand; other signals come from what it did
        )
    # 255 is what multiprocessing says where the process that starts the others died, and with it what it would know
    return WorkerDeath(
        status="failed", reason=f"the process that measured it ended with status {status}", again=status == 255
    )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class CapturedOutput:
    """The beginning and the end of what was printed, whatever came in between."""

    def __init__(self) -> None:
        self.first, self.last, self.count = b"", b"", 0

    def add(self, some: bytes) -> None:
        """Take in what came next."""
        room = ENDS - len(self.first)
        self.first += some[:room]
        self.last = (self.last + some[room:])[-ENDS:]
        self.count += len(some)

    def text(self) -> str | None:
        """What is kept, with how much is not; None where nothing was printed."""
        left_out = self.count - len(self.first) - len(self.last)
        between = f"\n[{left_out} bytes left out]\n".encode() if left_out else b""
        text = (self.first + between + self.last).decode("utf-8", errors="replace")
        return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text) or None


def failed_record(blank: Record, error: BaseException) -> Record:
    """The record of a measure that has no value, because of `error`."""
    status, reason = failure_status(error)
    return replace(blank, status=status, reason=reason)


def failure_status(error: BaseException) -> tuple[Status, str]:
    """The status of a measure that raised `error`, and its reason in a line."""
    text = cut(" ".join(str(error).split()), MAX_CAUSE_CHARS)
    match error:
        case NotApplicable():
            return "skipped", text
        case MemoryError() | torch.OutOfMemoryError():
            return "oom", text or "out of memory"
        case RuntimeError() if "can't allocate memory" in text:  # the CPU's allocator raises a plain one
            return "oom", text
        case InvalidInput():
            return "failed", text
        case _:
            return "failed", cut(f"{type(error).__name__}: {text}", MAX_CAUSE_CHARS)
