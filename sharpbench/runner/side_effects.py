"""What a measure leaves behind for the cells after it: found after each cell, and undone where that is possible."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sharpbench.core.record import MAX_CAUSE_CHARS
from sharpbench.core.subject import Subject
from sharpbench.errors import truncate
from sharpbench.runner.child_processes import adopt_orphans, end_children, list_children
from sharpbench.runner.process_settings import ProcessSettings
from sharpbench.runner.replaced_functions import ReplacedFunctions
from sharpbench.runner.sentinel import sentinel_values
from sharpbench.runner.subject_state import SubjectState

THREAD_SECONDS = 0.1
"""Time that the threads which a measure started have to end after it."""
SERVICE_THREADS = ("tqdm",)
"""Packages whose threads compute nothing: tqdm's refreshes progress bars, and torch starts it when it captures."""
MAX_NAMES = 3
"""Names that a reason lists of each kind."""


@dataclass(frozen=True, slots=True)
class SideEffects:
    """What a measure left behind.

    Attributes:
        written: what it wrote to of the network, its examples or what measures share: the network must be opened anew.
        settings: the settings of the process that it changed; they are restored.
        replaced: the functions of libraries that it replaced; they are put back.
        threads: the threads that it left running.
        processes: the processes that it left running; they are ended.
        lasting: what this process cannot undo.
    """

    written: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    threads: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.written or self.settings or self.replaced or self.threads or self.processes or self.lasting)

    @property
    def reason(self) -> str:
        """What was left behind, in one line with the remedy."""
        parts = (
            ("wrote to", self.written, "measure copies"),
            ("changed the global settings", self.settings, "restore them before returning"),
            ("replaced", self.replaced, "put them back before returning"),
            ("left running", self.threads + self.processes, "end them before returning"),
        )
        found = [f"{verb} {_list_names(names)}; {remedy}" for verb, names, remedy in parts if names]
        if not found:
            found = ["changed what torch and Python compute; undo it before returning"]
        return truncate(f"the measure {', and it '.join(found)}", MAX_CAUSE_CHARS)


class SideEffectGuard:
    """Compares the process and the subjects of one network before and after each measure.

    Cost: about 20 ms a cell, and one pass over the bytes of the network and its examples.
    """

    def __init__(self, *subjects: Subject) -> None:
        self._states = [SubjectState(subject) for subject in subjects]
        self._values = sentinel_values()
        self._settings, self._functions = ProcessSettings(), ReplacedFunctions()
        self._threads, self._children = set(threading.enumerate()), list_children()
        self._unlisted = _unlisted_threads()

    def begin(self) -> None:
        """Take in the state of the process before a measure is called."""
        self._settings, self._functions = ProcessSettings(), ReplacedFunctions()
        self._threads, self._children = set(threading.enumerate()), list_children()
        self._unlisted = _unlisted_threads()
        adopt_orphans(True)

    def finish(self) -> SideEffects:
        """What the measure left behind since `begin`; settings and functions are restored."""
        started = [
            thread
            for thread in threading.enumerate()
            if thread not in self._threads and type(thread).__module__.partition(".")[0] not in SERVICE_THREADS
        ]
        running = _end_threads(started)
        unlisted = _end_unlisted_threads(self._unlisted)
        processes = tuple(map(str, end_children(self._children)))
        adopt_orphans(False)
        replaced = self._functions.restore()  # first: what follows calls them
        settings = self._settings.restore()
        written = tuple(dict.fromkeys(name for state in self._states for name in state.changes()))
        lasting = [*self._settings.lasting, *running, *unlisted]
        if not lasting and _read_sentinel() != self._values:
            lasting.append("what torch and Python compute")
        left = tuple(f"the thread '{thread.name}'" for thread in started if _is_timer(thread) or thread.is_alive())
        left += unlisted
        return SideEffects(written, settings, replaced, left, processes, tuple(lasting))


def _is_timer(thread: threading.Thread) -> bool:
    return isinstance(thread, threading.Timer)


def _end_threads(threads: Sequence[threading.Thread]) -> list[str]:
    """Cancel timers and wait a moment for the others; the names of those that still run."""
    for thread in threads:
        if isinstance(thread, threading.Timer):
            thread.cancel()
    for thread in threads:
        thread.join(THREAD_SECONDS)
    return [f"the thread '{thread.name}'" for thread in threads if thread.is_alive()]


def _unlisted_threads() -> set[int]:
    """The threads that run Python code and that the module `threading` does not know, by their identifiers."""
    return set(sys._current_frames()) - {thread.ident or 0 for thread in threading.enumerate()}


def _end_unlisted_threads(before: set[int]) -> tuple[str, ...]:
    """Wait a moment for the threads that are not among those of `before`; those that still run."""
    until = time.monotonic() + THREAD_SECONDS
    while (left := _unlisted_threads() - before) and time.monotonic() < until:
        time.sleep(THREAD_SECONDS / 10)
    return tuple(f"the thread {ident} of the module _thread" for ident in sorted(left))


def _read_sentinel() -> tuple[float, ...] | None:
    try:
        return sentinel_values()
    except Exception:  # whatever torch raises in a state in which it cannot compute
        return None


def _list_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
