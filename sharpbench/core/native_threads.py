"""The threads of this process outside Python: those of BLAS, and whether all threads are asleep."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from threadpoolctl import threadpool_limits

REST_SECONDS = 0.02
"""Time for which a thread must sleep to be at rest."""
WAIT_SECONDS = 1.0
"""Longest wait until all threads are at rest: workers of OpenBLAS and of OpenMP spin for a while after their work."""
_TASKS = Path("/proc/self/task")
_STATUS_ENTRIES = ("State", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")

_lock = threading.Lock()
_limits: list[threadpool_limits | None] = []  # one entry per block; the first one holds what to restore


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Have products of matrices use one thread in this process; at the end of the block, as many as before.

    Blocks may be nested, and overlap in several threads: the last one that ends restores the number.

    >>> from threadpoolctl import threadpool_info
    >>> with one_blas_thread():
    ...     max((each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"), default=1)
    1
    """
    with _lock:
        _limits.append(None if _limits else threadpool_limits(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            if len(_limits) > 1:
                _limits.pop()
            elif (limits := _limits.pop()) is not None:
                limits.restore_original_limits()


def other_threads_rest() -> bool:
    """Whether all other threads of this process sleep, so that none multiplies matrices. Always False without Linux.

    A thread within OpenBLAS, and the workers that share its product, run all the time. A thread that waits for a
    message, a timer or a lock sleeps, as those of a notebook and of a progress bar nearly always do. This waits up to a
    second for them.
    """
    until = time.monotonic() + WAIT_SECONDS
    with contextlib.suppress(OSError):  # where the system does not show threads
        before = _look_at_threads()
        while time.monotonic() < until:
            time.sleep(REST_SECONDS)
            now = _look_at_threads()
            if now == before and all(thread.get("State", "").startswith("S") for thread in now.values()):
                return True
            before = now
    return False


def _look_at_threads() -> dict[str, dict[str, str]]:
    """Id of each other thread -> its state, and how often it began to sleep and was interrupted."""
    found, here = {}, str(threading.get_native_id())
    for task in _TASKS.iterdir():
        if task.name != here:
            with contextlib.suppress(OSError):  # of a thread that ended meanwhile
                lines = [line.partition(":\t") for line in (task / "status").read_text().splitlines()]
                found[task.name] = {entry: value for entry, _, value in lines if entry in _STATUS_ENTRIES}
    return found
