"""Timing: seconds, gradients and peak memory of one standalone call."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from sharpbench.core.subject import Subject

REPEATS = 5
LONG = 1.0
"""Calls that take longer than this many seconds are timed once after the warm-up, not REPEATS times."""
WAITED = 0.1
"""Above this share of waiting, in the time that threads wanted a processor, a call was timed beside other work."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call costs.

    seconds: median of the timed calls, the warm-up (and with it the capture of the network's graph) left out.
    gradients: seconds over the time of one full-data forward and backward in the same process.
    peak_bytes: growth of the peak resident memory (CPU, Linux) or of torch's peak allocation (CUDA) over
        what stood before the call; None where it cannot be told.
    contended: other work took processors from the timed calls (as Linux counts it; elsewhere nothing does).
    """

    seconds: float
    gradients: float
    peak_bytes: int | None
    contended: bool = False


def cost(
    call: Callable[[Subject], object], subject: Subject, *, prepare: Callable[[Subject], object] = lambda fresh: None
) -> Cost:
    """The Cost of `call`, which is given a fresh subject every time, so that nothing is shared with others.

    prepare: is given that subject before, which is not timed (see `Measure.prepare`).
    """
    device = subject.inputs.device

    def ready() -> Callable[[], object]:
        fresh = subject.fresh()
        prepare(fresh)
        return lambda: call(fresh)

    before = scheduled()
    seconds = _median(lambda: timed(ready(), device))
    gradient = median_seconds(lambda: torch.func.grad(subject.loss)(subject.params), device)
    contended = contention(before, scheduled()) > WAITED
    return Cost(seconds, seconds / gradient, peak_bytes(ready(), device), contended)


def contention(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Of the time between two counts of processor time and waiting, the share of the waiting."""
    ran, waited = (late - early for early, late in zip(before, after, strict=True))
    return waited / (ran + waited) if waited > 0 and ran + waited > 0 else 0.0


def scheduled() -> tuple[int, int]:
    """Nanoseconds that the threads of this process have run, and have been ready to and waited."""
    ran = waited = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # the thread has ended
            words = path.read_text(encoding="ascii").split()
            ran, waited = ran + int(words[0]), waited + int(words[1])
    return ran, waited


def median_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of `call` after a warm-up: the median of REPEATS calls, or the one of a LONG one."""
    return _median(lambda: timed(call, device))


def _median(once: Callable[[], float]) -> float:
    once()  # warm-up
    first = once()
    if first > LONG:
        return first
    return statistics.median([first, *(once() for _ in range(REPEATS - 1))])


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, all work on the device included."""
    _synchronize(device)
    start = time.perf_counter()
    call()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """By how much `call` raises the peak of resident memory (CPU, Linux) or of torch's allocations (CUDA)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if not _reset_peak():
        return None
    resident = _status_bytes("VmRSS")
    call()
    peak = _status_bytes("VmHWM")
    return None if resident is None or peak is None else max(0, peak - resident)


def _reset_peak() -> bool:
    """Give freed heap back to the system and let the kernel count the peak anew; False where it cannot."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except (OSError, AttributeError):
        return False
    return True


def _status_bytes(field: str) -> int | None:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None
