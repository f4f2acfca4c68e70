"""Exceptions of a measure as the status and the reason of its record."""

from __future__ import annotations

from dataclasses import replace

import torch

from sharpbench.core.measure import NotApplicable
from sharpbench.core.record import MAX_CAUSE_CHARS, Record, Status
from sharpbench.errors import InvalidInput, truncate


def failed_record(empty: Record, error: BaseException) -> Record:
    """The record of a measure that has no value, because of `error`.

    Args:
        empty: the record before the measure was called.
    """
    status, reason = failure_status(error)
    return replace(empty, status=status, reason=reason)


def failure_status(error: BaseException) -> tuple[Status, str]:
    """The status of a measure that raised `error`, and its reason on one line.

    >>> failure_status(MemoryError())
    ('oom', 'out of memory')
    """
    text = truncate(" ".join(str(error).split()), MAX_CAUSE_CHARS)
    match error:
        case NotApplicable():
            return "skipped", text
        case MemoryError() | torch.OutOfMemoryError():
            return "oom", text or "out of memory"
        case RuntimeError() if "can't allocate memory" in text:  # the CPU's allocator raises a plain one
            return "oom", text
        case InvalidInput():
            return "failed", text
        case _:
            return "failed", truncate(f"{type(error).__name__}: {text}", MAX_CAUSE_CHARS)
