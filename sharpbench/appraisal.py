"""Appraisal: all that is asked of one measure on one subject, as a record."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch

from sharpbench.core.evaluate import measure
from sharpbench.core.measure import Estimate, Measure, NotApplicable
from sharpbench.core.record import LONGEST_CAUSE, Record, Status
from sharpbench.core.subject import Subject
from sharpbench.errors import InvalidInput, cut
from sharpbench.invariance import changes
from sharpbench.timing import cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked beside the value: its standalone cost, its oracle's value, its change under rewrites."""

    timed: bool = False
    checked: bool = False
    rewritten: bool = False


def appraise(chosen: Measure, subject: Subject, doubled: Subject, *, blank: Record, asked: Asked) -> Record:
    """The record of `chosen` on `subject`. Whatever the measure raises becomes its status and reason.

    doubled: the same subject in float64, for oracle and rewrites. blank: the record before, with seed and key.
    """
    start = time.perf_counter()
    try:
        estimate = measure(chosen, subject, seed=blank.seed)
        record = _with_estimate(blank, estimate, time.perf_counter() - start)
        if asked.timed:
            record = _with_cost(record, chosen, subject)
        if asked.checked:
            record = _with_oracle(record, chosen, doubled)
        return replace(record, invariance=changes(chosen, doubled, seed=blank.seed)) if asked.rewritten else record
    except (Exception, SystemExit) as error:  # a measure that raises, or leaves Python, costs its own record alone
        return lost(blank, error)


def lost(blank: Record, error: BaseException) -> Record:
    """The record of a measure that has no value, because of `error`."""
    status, reason = fate(error)
    return replace(blank, status=status, reason=reason)


def fate(error: BaseException) -> tuple[Status, str]:
    """The status of a measure that raised `error`, and its reason in a line."""
    text = cut(" ".join(str(error).split()), LONGEST_CAUSE)
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
            return "failed", cut(f"{type(error).__name__}: {text}", LONGEST_CAUSE)


def _with_estimate(record: Record, estimate: Estimate, shared_seconds: float) -> Record:
    low, high = estimate.interval or (None, None)
    return replace(
        record,
        status="ok",
        reason=None,
        value=estimate.value,
        stderr=estimate.stderr,
        low=low,
        high=high,
        probes=estimate.probes,
        converged=estimate.converged,
        details=dict(estimate.details),
        parts=dict(estimate.parts),
        shared_seconds=shared_seconds,
    )


def _with_cost(record: Record, chosen: Measure, subject: Subject) -> Record:
    spent = cost(lambda fresh: measure(chosen, fresh, seed=record.seed), subject, prepare=chosen.prepare)
    return replace(
        record,
        seconds=spent.seconds,
        gradients=spent.gradients,
        peak_bytes=spent.peak_bytes,
        contended=spent.contended,
    )


def _with_oracle(record: Record, chosen: Measure, doubled: Subject) -> Record:
    exact, by = oracle(chosen, doubled)
    return record if exact is None else replace(record, exact=exact, oracle=by)


def oracle(chosen: Measure, doubled: Subject) -> tuple[float | None, str]:
    """What the value should be, None where the measure has no oracle, and how that is found.

    The oracle is asked in float64, at the same weights. Raises what the measure raises, and ValueError for a value that
    is not finite.
    """
    exact = chosen.exact(doubled)
    if exact is not None and not math.isfinite(exact):
        raise ValueError(f"the oracle of '{chosen.name}' returns {exact}")
    rounding_alone = chosen.oracle_limit is not None and doubled.size > chosen.oracle_limit
    return exact, "float64 engine" if rounding_alone else "definition"
