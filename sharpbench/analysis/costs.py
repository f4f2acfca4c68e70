"""Failures, exactness, cost and invariance, summarized over the records of one measure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sharpbench.core.fields import Scalar
from sharpbench.core.record import Record


@dataclass(frozen=True, slots=True)
class Failure:
    """The number of networks that ended without a value, or 'without' a check, for one reason."""

    status: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Exactness:
    """|value - exact| / |exact| over the compared networks; oracle: 'definition', 'float64 engine' or both."""

    largest: float
    median: float
    networks: int
    oracle: str


@dataclass(frozen=True, slots=True)
class Timing:
    """Median seconds of a standalone call in one environment, which is one line of text.

    contended: other work ran next to all of these calls, so they may have taken longer than they need.
    """

    environment: str
    seconds: float
    networks: int
    contended: bool = False


def count_failures(records: Iterable[Record]) -> tuple[Failure, ...]:
    """The records without a value by status and reason, and those without a check; the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    for each in records:
        if each.status != "ok":
            counts[each.status, each.reason or "no reason given"] += 1
        counts.update((f"without {check}", reason) for check, reason in each.failed_checks.items())
    found = [Failure(status, reason, count) for (status, reason), count in counts.items()]
    return tuple(sorted(found, key=lambda each: (-each.count, each.status, each.reason)))


def summarize_exactness(done: Sequence[Record]) -> Exactness | None:
    """The relative errors of the records that were compared with an oracle; None where none was.

    An error that cannot be relative to 0 counts as 1.
    """
    checked = [(each.value, each.exact) for each in done if each.value is not None and each.exact is not None]
    if not checked:
        return None
    errors = [1.0 if (error := relative_error(*pair)) is None else error for pair in checked]
    oracles = sorted({each.oracle or "unnamed" for each in done if each.exact is not None})
    return Exactness(max(errors), statistics.median(errors), len(errors), ", ".join(oracles))


def relative_error(value: float, exact: float) -> float | None:
    """|value - exact| / |exact|; where `exact` is 0, it is 0 for a value of 0 and None for any other.

    >>> relative_error(-3.0, -2.0)
    0.5
    """
    if exact == 0:
        return 0.0 if value == 0 else None
    return abs(value - exact) / abs(exact)


def largest_factors(done: Iterable[Record]) -> dict[str, float | None]:
    """The largest factor of change by kind of rewrite; None where some record has no factor."""
    found: dict[str, list[float | None]] = {}
    for each in done:
        for kind, factor in each.invariance.items():
            found.setdefault(kind, []).append(factor)
    return {
        kind: None if None in factors else max(factor for factor in factors if factor is not None)
        for kind, factors in found.items()
    }


def summarize_timings(done: Sequence[Record]) -> tuple[Timing, ...]:
    """The median seconds in each environment; seconds of different environments are never combined."""
    counted = select_timed(done)
    contended = any(each.contended for each in counted)
    seconds: dict[str, list[float]] = {}
    for each in counted:
        if each.seconds is not None:
            place = each.timed_environment or each.environment
            seconds.setdefault(format_environment(place), []).append(each.seconds)
    return tuple(
        Timing(place, statistics.median(seconds[place]), len(seconds[place]), contended) for place in sorted(seconds)
    )


def select_timed(done: Iterable[Record]) -> list[Record]:
    """The timed records that count: those that can be compared, or where there are none, those next to other work.

    The time of a cell that was divided among processes never counts.
    """
    timed = [each for each in done if each.seconds is not None and each.pieces == 1]
    return select_comparable(timed) or timed


def select_comparable(done: Iterable[Record]) -> list[Record]:
    """The records whose times can be compared: the cell ran in one process, without other work next to it."""
    return [each for each in done if not each.contended and each.pieces == 1]


def count_incomparable(done: Iterable[Record]) -> int:
    """The number of records whose times cannot be compared."""
    timed = [each for each in done if each.seconds is not None]
    return len(timed) - len(select_comparable(timed))


def median_or_none(values: Iterable[float | None]) -> float | None:
    """The median of the values that are not None; None where there is none."""
    present = [value for value in values if value is not None]
    return float(statistics.median(present)) if present else None


def format_environment(environment: Mapping[str, Scalar]) -> str:
    """An environment as one line: its entries in order, without empty ones."""
    known = {name: value for name, value in sorted(environment.items()) if value is not None}
    return ", ".join(
        f"{name} {str(value).lower() if isinstance(value, bool) else value}" for name, value in known.items()
    )
