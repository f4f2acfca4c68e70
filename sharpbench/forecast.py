"""Forecast: whether a measure works on a subject, and what it will take, found on a few of its examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sharpbench.appraisal import fate
from sharpbench.core.evaluate import measure
from sharpbench.core.measure import Measure
from sharpbench.core.record import Status
from sharpbench.core.subject import Subject
from sharpbench.environment import free_bytes
from sharpbench.timing import median_seconds, peak_bytes

FEW = 8
"""At least so many examples go into the larger pilot."""
GOAL = 2.0
"""Seconds that the larger pilot may take: the larger it is, the less the noise of a line through both."""
PATIENCE = 20.0
"""Seconds of the smaller pilot above which there is no larger one: its time is then taken in proportion."""


@dataclass(frozen=True, slots=True)
class Forecast:
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


def forecast(chosen: Measure, subject: Subject, *, seed: int = 0) -> Forecast:
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
        status, reason = fate(error)
        return Forecast(status, reason)
    free = free_bytes(device)
    if peak is not None and free is not None and peak > free:
        reason = f"needs {peak / 2**20:,.0f} MiB where {free / 2**20:,.0f} MiB are free; use fewer or smaller inputs"
        return Forecast("oom", reason, None, peak, tuple(sizes))
    return Forecast("ok", None, _line(sizes, seconds, total), peak, tuple(sizes))


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
