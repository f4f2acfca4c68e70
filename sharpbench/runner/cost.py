"""Timing: seconds, gradients and peak memory of one standalone call."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sharpbench.core.evaluate import measure
from sharpbench.core.measure import Measure
from sharpbench.core.record import Status
from sharpbench.core.subject import Subject
from sharpbench.environment import free_bytes
from sharpbench.runner.failures import failure_status

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


def measure_cost(
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

    before = read_schedstat()
    seconds = _median(lambda: time_call(ready(), device))
    gradient = median_seconds(lambda: torch.func.grad(subject.loss)(subject.params), device)
    contended = measure_contention(before, read_schedstat()) > WAITED
    return Cost(seconds, seconds / gradient, peak_bytes(ready(), device), contended)


def measure_contention(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Of the time between two counts of processor time and waiting, the share of the waiting."""
    ran, waited = (late - early for early, late in zip(before, after, strict=True))
    return waited / (ran + waited) if waited > 0 and ran + waited > 0 else 0.0


def read_schedstat() -> tuple[int, int]:
    """Nanoseconds that the threads of this process have run, and have been ready to and waited."""
    ran = waited = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # the thread has ended
            words = path.read_text(encoding="ascii").split()
            ran, waited = ran + int(words[0]), waited + int(words[1])
    return ran, waited


def median_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of `call` after a warm-up: the median of REPEATS calls, or the one of a LONG one."""
    return _median(lambda: time_call(call, device))


def _median(once: Callable[[], float]) -> float:
    once()  # warm-up
    first = once()
    if first > LONG:
        return first
    return statistics.median([first, *(once() for _ in range(REPEATS - 1))])


def time_call(call: Callable[[], object], device: torch.device) -> float:
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


# Forecast: whether a measure works on a subject, and what it will take, found on a few of its examples.

FEW = 8
"""At least so many examples go into the larger pilot."""
GOAL = 2.0
"""Seconds that the larger pilot may take: the larger it is, the less the noise of a line through both."""
PATIENCE = 20.0
"""Seconds of the smaller pilot above which there is no larger one: its time is then taken in proportion."""


@dataclass(frozen=True, slots=True)
class PredictedCost:
    """What one standalone call of a measure on all examples is expected to do.

    status, reason: as a record's: ok, skipped, failed, or oom where it will need more than is free.
    seconds, bytes: of the call, and the growth of the peak memory in it; None where there is nothing to tell.
    pilots: the numbers of examples that this was found on.
    """

    status: Status
    reason: str | None = None
    seconds: float | None = None
    bytes: int | None = None
    pilots: tuple[int, ...] = ()


def predict_cost(chosen: Measure, subject: Subject, *, seed: int = 0) -> PredictedCost:
    """The Forecast of `chosen` on `subject`, from calls on some of its first examples.

    Time is a straight line through two pilots: what does not grow with the examples (a solve, probes of a fixed
    number) is its value at none. Memory is that of the larger pilot: it goes through a whole batch, after which more
    examples add little. The capture of the network's graph is left out.
    """
    device, total = subject.inputs.device, len(subject.inputs)
    batch = min(total, max(FEW, subject.batch_size))
    sizes, seconds = [max(1, batch // 2)], []
    try:
        seconds.append(median_seconds(_call(chosen, _first(subject, sizes[0]), seed), device))
        if sizes[0] < total and seconds[0] <= PATIENCE:
            sizes.append(min(total, max(batch, int(sizes[0] * GOAL / seconds[0]))))
            seconds.append(median_seconds(_call(chosen, _first(subject, sizes[1]), seed), device))
        peak = peak_bytes(_call(chosen, _first(subject, sizes[-1]), seed), device)
    except (Exception, SystemExit) as error:  # whatever a measure raises
        status, reason = failure_status(error)
        return PredictedCost(status, reason)
    free = free_bytes(device)
    if peak is not None and free is not None and peak > free:
        reason = f"needs {peak / 2**20:,.0f} MiB where {free / 2**20:,.0f} MiB are free; use fewer or smaller inputs"
        return PredictedCost("oom", reason, None, peak, tuple(sizes))
    return PredictedCost("ok", None, _line(sizes, seconds, total), peak, tuple(sizes))


def _first(subject: Subject, size: int) -> Subject:
    return replace(subject, inputs=subject.inputs[:size], targets=subject.targets[:size])


def _call(chosen: Measure, subject: Subject, seed: int) -> Callable[[], object]:
    return lambda: measure(chosen, subject.fresh(), seed=seed)


def _line(sizes: list[int], seconds: list[float], examples: int) -> float:
    """The seconds at `examples`, on the line through the pilots, or in proportion to the only one."""
    if len(sizes) == 1:
        return seconds[0] * examples / sizes[0]
    slope = max(0.0, (seconds[1] - seconds[0]) / (sizes[1] - sizes[0]))
    return seconds[1] + slope * (examples - sizes[1])
