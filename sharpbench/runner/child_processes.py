"""The processes that a measure started: listed, given a moment to end, and ended with their own children."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sharpbench.errors import shorten

PROCESS_SECONDS = 1.0
"""Time that the processes which a measure started have to end after it."""
LOOK_SECONDS = 0.01
"""Time between two looks at them."""
SERVICES = ("multiprocessing.resource_tracker", "torch/_inductor/compile_worker")
"""Processes that Python and torch start once and keep: they know the names of locks, or compile."""
PR_SET_CHILD_SUBREAPER = 36  # Linux's option of prctl(2): orphans below this process become its children


@dataclass(frozen=True, slots=True)
class Child:
    """A process that runs; two are equal only if no other process has taken the number in between."""

    pid: int
    started: int
    command: str

    def __str__(self) -> str:
        return f"the process {self.pid} ({shorten(self.command)})"


def adopt_orphans(adopts: bool) -> None:
    """Have the system, where it can, give this process the orphans below it from now on, or no longer.

    `list_children` then finds processes that were put into the background.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(adopts))


def list_children(parent: int | None = None) -> frozenset[Child]:
    """The children of a process, by default of this one, that run, without `SERVICES`.

    Empty where the system does not tell: it is read from /proc.
    """
    found = set()
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{parent or 'self'}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that has ended
                pids = (thread / "children").read_text(encoding="ascii").split()
                found |= {child for pid in pids if (child := _read_child(int(pid))) is not None}
    return frozenset(child for child in found if not any(each in child.command for each in SERVICES))


def end_children(before: Collection[Child]) -> tuple[Child, ...]:
    """The children that are not among those of `before` and do not end by themselves; they are killed.

    A child that was forked and not reaped does not run, and is not among them.
    """
    if not (started := list_children() - frozenset(before)):
        return ()
    until = time.monotonic() + PROCESS_SECONDS
    while started and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        started = list_children() - frozenset(before)
    left = tuple(sorted(started, key=lambda child: child.pid))
    while started:  # ends: what is killed starts nothing, and orphans below become children
        for child in started:
            kill_tree(child.pid)
        time.sleep(LOOK_SECONDS)
        started = list_children() - frozenset(before)
    return left


def kill_tree(pid: int) -> None:
    """Stop a process first, so that it starts no more, then end all below it, then itself."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGSTOP)
        for each in list_children(pid):
            kill_tree(each.pid)
        os.kill(pid, signal.SIGKILL)


def _read_child(pid: int) -> Child | None:
    """A process by its number; None where it does not run any more."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
        fields = rest.split()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return None
    if fields[0] in "ZX":
        return None
    command = " ".join(word for word in words if word) or name.partition("(")[2]
    return Child(pid, int(fields[19]), command)
