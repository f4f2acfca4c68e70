"""What one standalone call of a measure costs, measured: seconds, gradients and peak memory; and predicted."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

from sharpbench.core.evaluate import measure
from sharpbench.core.measure import Measure
from sharpbench.core.record import Status
from sharpbench.core.subject import Subject
from sharpbench.curvature import gradient_method
from sharpbench.environment import free_bytes
from sharpbench.runner.failures import failure_status

REPEATS = 5
MAX_REPEATED_SECONDS = 1.0
"""A call that takes longer is timed once after the warm-up, not REPEATS times."""
MAX_WAITING_SHARE = 0.1
"""Share of the time in which threads waited for a processor, above which a call counts as timed next to other work."""
MIN_PILOT_EXAMPLES = 8
"""Least number of examples of the larger pilot of a prediction."""
PILOT_SECONDS = 2.0
"""Time that the larger pilot may take: the larger it is, the less noisy is the line through both."""
FORECAST_EXAMPLES = (8, 64)
"""Numbers of examples of the two calls of a forecast."""
MIN_FORECAST_RATIO = 4
"""Least ratio of all examples to those of the larger call."""
MIN_FORECAST_SECONDS = 10.0
"""A shorter call has no forecast."""
MAX_FORECAST_PILOT_SECONDS = 10.0
"""Time that the calls of a forecast may take together."""
SIGNAL_INTERVAL_SECONDS = 0.1
"""Time after which a call is ended again that went on after the first attempt."""
MAX_FIRST_PILOT_SECONDS = 20.0
"""If the smaller pilot takes longer, there is no larger one, and its time is scaled in proportion."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call costs.

    Attributes:
        seconds: median of the timed calls, without the warm-up and the capture of the network's graph in it.
        gradients: seconds divided by the time of one full-data forward and backward in the same process.
        peak_bytes: growth of the peak resident memory (CPU, Linux) or of torch's peak allocation (CUDA) in the call;
            None where the system does not tell.
        contended: whether other work took processors from the timed calls, as far as Linux counts it.
    """

    seconds: float
    gradients: float
    peak_bytes: int | None
    contended: bool = False


def measure_cost(
    call: Callable[[Subject], object], subject: Subject, *, prepare: Callable[[Subject], object] = lambda fresh: None
) -> Cost:
    """The cost of `call`, which gets a fresh subject every time, so that it shares no work with other calls.

    Args:
        prepare: gets that subject before, and is not timed (see `Measure.prepare`).
    """
    device = subject.device

    def prepared_call() -> Callable[[], object]:
        fresh = subject.fresh()
        prepare(fresh)
        return lambda: call(fresh)

    method = gradient_method(subject)
    before = read_schedstat()
    seconds = _median(lambda: time_call(prepared_call(), device))
    gradient = median_seconds(lambda: method.gradient_and_value(subject.loss, subject.params), device)
    contended = measure_contention(before, read_schedstat()) > MAX_WAITING_SHARE
    return Cost(seconds, seconds / gradient, peak_bytes(prepared_call(), device), contended)


def measure_contention(before: tuple[int, int], after: tuple[int, int]) -> float:
    """The share of waiting in the time between two results of `read_schedstat`."""
    ran, waited = (late - early for early, late in zip(before, after, strict=True))
    return waited / (ran + waited) if waited > 0 and ran + waited > 0 else 0.0


def read_schedstat() -> tuple[int, int]:
    """Nanoseconds for which the threads of this process have run, and have waited for a processor."""
    ran = waited = 0
    for path in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # the thread has ended
            words = path.read_text(encoding="ascii").split()
            ran, waited = ran + int(words[0]), waited + int(words[1])
    return ran, waited


def median_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of `call` after a warm-up: the median of REPEATS calls, or one call that is long."""
    return _median(lambda: time_call(call, device))


def _median(once: Callable[[], float]) -> float:
    once()  # warm-up
    return _warm_median(once)


def _warm_median(once: Callable[[], float]) -> float:
    first = once()
    if first > MAX_REPEATED_SECONDS:
        return first
    return statistics.median([first, *(once() for _ in range(REPEATS - 1))])


def time_call(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, including all its work on the device."""
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
    if not _reset_peak_memory():
        return None
    resident = _status_bytes("VmRSS")
    call()
    peak = _status_bytes("VmHWM")
    return None if resident is None or peak is None else max(0, peak - resident)


def _reset_peak_memory() -> bool:
    """Whether freed heap was returned to the system and the kernel's count of the peak was reset."""
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


@dataclass(frozen=True, slots=True)
class PredictedCost:
    """What one standalone call of a measure on all examples is expected to cost.

    Attributes:
        status: as in a record: ok, skipped, failed, oom where it needs more memory than is free, or timeout where no
            call ended in the time that the prediction may take.
        reason: of a status other than ok.
        seconds: of the call; None where it is not known.
        bytes: the growth of the peak memory in the call; None where it is not known.
        pilots: the numbers of examples in the calls from which this was predicted.
    """

    status: Status
    reason: str | None = None
    seconds: float | None = None
    bytes: int | None = None
    pilots: tuple[int, ...] = ()


def predict_cost(
    chosen: Measure, subject: Subject, *, seconds: float = math.inf, examples: int | None = None
) -> PredictedCost:
    """The predicted cost of a measure on a subject, from calls on some of its first examples.

    The time is a straight line through two pilots, so that what does not grow with the examples (a solve, a fixed
    number of probes) counts once. The memory is that of the larger pilot: it goes through a whole batch, after which
    more examples add little. The capture of the network's graph is left out.

    Args:
        seconds: after which the prediction rests on the calls that have ended, of which the first includes the capture.
        examples: the number for which the time is predicted; by default that of the subject.
    """
    device, total = subject.device, subject.n
    batch = min(total, max(MIN_PILOT_EXAMPLES, subject.batch_size))
    pilots: dict[int, float] = {}
    peak, size = None, max(1, batch // 2)

    def time_pilot(size: int) -> None:
        call = _call(chosen, _take_first(subject, size))
        pilots[size] = time_call(call, device)
        pilots[size] = _warm_median(lambda: time_call(call, device))

    try:
        with _time_limit(seconds):
            time_pilot(size)
            if size < total and pilots[size] <= MAX_FIRST_PILOT_SECONDS:
                size = min(total, max(batch, int(size * PILOT_SECONDS / pilots[size])))
                time_pilot(size)
            peak = peak_bytes(_call(chosen, _take_first(subject, size)), device)
    except _OutOfTime:
        if not pilots:
            return PredictedCost("timeout", f"a call on {size} of {total} examples took longer than {seconds:.3g} s")
    except (Exception, SystemExit) as error:  # whatever a measure raises
        status, reason = failure_status(error)
        return PredictedCost(status, reason)
    free = free_bytes(device)
    if peak is not None and free is not None and peak > free:
        reason = f"needs {peak / 2**20:,.0f} MiB where {free / 2**20:,.0f} MiB are free; use fewer or smaller inputs"
        return PredictedCost("oom", reason, None, peak, tuple(pilots))
    whole = _extrapolate(list(pilots), list(pilots.values()), examples or total)
    return PredictedCost("ok", None, whole, peak, tuple(pilots))


def forecast_seconds(chosen: Measure, subject: Subject, *, seed: int = 0) -> float | None:
    """About the seconds of a call on all examples, on the line through calls on FORECAST_EXAMPLES.

    None where a forecast is not worth its time: the examples are too few, the call is shorter than
    MIN_FORECAST_SECONDS, or the calls take longer than MAX_FORECAST_PILOT_SECONDS or fail.
    """
    few, many = FORECAST_EXAMPLES
    total, device = subject.n, subject.device
    if total < MIN_FORECAST_RATIO * many:
        return None

    def seconds(size: int) -> float:
        return time_call(_call(chosen, _take_first(subject, size), seed), device)

    try:
        with _time_limit(MAX_FORECAST_PILOT_SECONDS):
            for _ in range(2):  # the first call also captures the graph
                first = seconds(few)
                if first * total / few < MIN_FORECAST_SECONDS:
                    return None
            whole = _extrapolate([few, many], [first, seconds(many)], total)
            return whole if whole >= MIN_FORECAST_SECONDS else None
    except (Exception, SystemExit, _OutOfTime):  # whatever a measure raises; it will again on all examples
        return None


class _OutOfTime(BaseException):
    """The end of `_time_limit`; no measure that catches Exception takes it for its own."""


def _is_finaliser(frame: FrameType) -> bool:
    """Whether Python ignores exceptions that are raised in the frame: it is of a destructor, or of a weak reference."""
    file = os.path.basename(frame.f_code.co_filename)
    return frame.f_code.co_name == "__del__" or file in ("weakref.py", "_weakrefset.py")


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise _OutOfTime in the block after some seconds; outside of the main thread there is no limit."""
    if math.isinf(seconds) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_: int, frame: FrameType | None) -> None:
        while frame is not None and not _is_finaliser(frame):
            frame = frame.f_back
        if frame is None:  # an exception in a finaliser would be printed and lost; the next signal comes soon
            raise _OutOfTime

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), SIGNAL_INTERVAL_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _take_first(subject: Subject, size: int) -> Subject:
    return subject.take(slice(size))


def _call(chosen: Measure, subject: Subject, seed: int = 0) -> Callable[[], object]:
    return lambda: measure(chosen, subject.fresh(), seed=seed)


def _extrapolate(sizes: list[int], seconds: list[float], examples: int) -> float:
    """The seconds at `examples`, on the line through the pilots, or in proportion to the only one."""
    if len(sizes) == 1:
        return seconds[0] * examples / sizes[0]
    slope = max(0.0, (seconds[1] - seconds[0]) / (sizes[1] - sizes[0]))
    return seconds[1] + slope * (examples - sizes[1])
