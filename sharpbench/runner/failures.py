"""Exceptions of a measure as the status and the reason of its record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sharpbench.core.measure import NotApplicable
from sharpbench.core.record import MAX_CAUSE_CHARS, MAX_CHECK_REASON_CHARS, Record, Status
from sharpbench.core.requirements import is_out_of_memory
from sharpbench.errors import InvalidInput, truncate


def failed_record(before: Record, error: BaseException, checks: Iterable[str] = ()) -> Record:
    """The record of a measure that has no value or check because of `error`; see `unfinished_record`."""
    return unfinished_record(before, *failure_status(error), checks=checks)


def unfinished_record(before: Record, status: Status, reason: str, *, checks: Iterable[str]) -> Record:
    """The record of an evaluation that ended for a reason.

    Args:
        before: the record before the evaluation. Where it has a value, it keeps it.
        checks: what the evaluation should have added to the value.
    """
    if before.status != "ok":
        return replace(before, status=status, reason=reason)
    text = truncate(f"{status}: {reason}", MAX_CHECK_REASON_CHARS)
    return replace(before, checks={**before.checks, **dict.fromkeys(checks, text)})


def failure_status(error: BaseException) -> tuple[Status, str]:
    """The status of a measure that raised `error`, and its reason on one line.

    >>> failure_status(MemoryError())
    ('oom', 'out of memory')
    """
    text = truncate(" ".join(str(error).split()), MAX_CAUSE_CHARS)
    match error:
        case NotApplicable():
            return "skipped", text
        case _ if is_out_of_memory(error):
            return "oom", text or "out of memory"
        case InvalidInput():
            return "failed", text
        case _:
            return "failed", truncate(f"{type(error).__name__}: {text}", MAX_CAUSE_CHARS)
