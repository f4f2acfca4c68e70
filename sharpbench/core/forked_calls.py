"""Calls side by side in copies of this process.

Threads were not faster: rows of a board took nearly twice as long in each of two threads as in one
(docs/performance.md). A copy of this process (`fork`) has its own lock of the interpreter, and shares the memory of
this process until one of them writes to it.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from sharpbench.child_output import UnreadableMessage
from sharpbench.core.native_threads import one_blas_thread, other_threads_rest
from sharpbench.processes import ChildEnded, ChildProcess, end_with_parent, interrupts_blocked

T = TypeVar("T")
MAX_PROCESSES = 8
"""More need more memory and save little, as there are seldom more than some ten calls for each."""


def count_workers() -> int:
    """The processes that `call_side_by_side` uses by default: one per core that this process may use, up to 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_PROCESSES)


def call_side_by_side(calls: Sequence[Callable[[], T]], *, workers: int) -> list[T]:
    """The results of all calls in their order, with `workers` of them made at a time.

    On Linux copies of this process make them. Elsewhere a copy is not safe, and this process makes them in turn; also
    where another thread is at work, because `fork` never returns while OpenBLAS multiplies matrices in another thread.
    BLAS uses one thread during all calls. What a call changes in a copy is lost: only its result, which is pickled, and
    files come back. A call without a result is made again in this process: where it raised, so that the exception comes
    with its traceback, and where its process was killed.

    >>> call_side_by_side([lambda: 1, lambda: 2, lambda: 3], workers=2)
    [1, 2, 3]
    """
    workers = min(workers, len(calls))
    childless = multiprocessing.current_process().daemon  # which may have no children
    with one_blas_thread():  # first, so that products that another thread begins later need no threads of OpenBLAS
        if workers < 2 or sys.platform != "linux" or childless or not other_threads_rest():
            return [call() for call in calls]
        return _call_in_copies(calls, workers)


def _call_in_copies(calls: Sequence[Callable[[], T]], workers: int) -> list[T]:
    found: dict[int, T] = {}
    with _copies(calls, workers) as children:
        waiting, busy = iter(range(len(calls))), {}
        for child in children:
            busy[child] = next(waiting)
            child.send(busy[child])
        while busy:
            ready = set(wait([sign for child in busy for sign in child.signs_of_life]))
            for child in [child for child in busy if ready.intersection(child.signs_of_life)]:
                number = busy.pop(child)
                try:
                    answer: tuple[T] | None = child.receive()
                except (ChildEnded, UnreadableMessage):
                    continue
                (found[number],) = answer or (calls[number](),)
                if (following := next(waiting, None)) is not None:
                    busy[child] = following
                    child.send(following)
    return [found[number] if number in found else call() for number, call in enumerate(calls)]


@contextlib.contextmanager
def _copies(calls: Sequence[Callable[[], object]], workers: int) -> Iterator[list[ChildProcess]]:
    """Copies of this process that make calls by their numbers; fewer where the system refuses to start more."""
    children: list[ChildProcess] = []
    try:
        with interrupts_blocked(), contextlib.suppress(OSError):  # none is started that is not in the list
            for _ in range(workers):
                children.append(ChildProcess(_serve_calls, calls, method="fork"))
        yield children
    finally:
        for child in children:
            child.close()


def _serve_calls(connection: Connection, calls: Sequence[Callable[[], object]]) -> None:
    """Send the result of each call whose number comes, in a tuple; None for a call that raised."""
    end_with_parent()
    gc.freeze()  # a collection would write to the memory of all objects, and so copy it
    while True:
        number = connection.recv()
        try:
            answer = pickle.dumps((calls[number](),))
        except Exception:  # whatever the call raises; the parent makes it again
            answer = pickle.dumps(None)
        connection.send_bytes(answer)
