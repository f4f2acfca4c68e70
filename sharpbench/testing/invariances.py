"""Invariances that a measure claims, checked under random rewrites, and those that it could claim."""

from __future__ import annotations

import typing
from collections.abc import Iterator

from sharpbench.core.measure import Estimate, Invariance, NotApplicable
from sharpbench.core.subject import Subject
from sharpbench.testing.examination import CheckSkipped, Examination, rounding_tolerance

KINDS: tuple[Invariance, ...] = typing.get_args(Invariance)


def check_claimed(exam: Examination, kind: Invariance) -> str:
    """The value stays the same under every rewrite of this kind, if the measure claims so."""
    if kind not in exam.measure.invariances():
        raise CheckSkipped("not claimed")
    return exam.compare_all(
        [(before, other, f"{name}, {kind}") for name, before, others in _rewrites(exam, kind) for other in others]
    )


def find_unclaimed(exam: Examination) -> str:
    """A finding: kinds that the measure does not claim although the value never changed under them."""
    unclaimed = [kind for kind in KINDS if kind not in exam.measure.invariances()]
    found = [kind for kind in unclaimed if _never_changes(exam, kind)]
    return f"never changes under {', '.join(found)}; invariances() might say so" if found else ""


def _never_changes(exam: Examination, kind: Invariance) -> bool:
    """Whether no rewrite changes the value by more than rounding. The same seed makes sampled values equal."""
    compared = False
    for _, before, others in _rewrites(exam, kind):
        for other in others:
            try:
                after = exam.estimate(other)
            except NotApplicable:
                return False
            if abs(after.value - before.value) > rounding_tolerance(after.value, before.value, exam.rtol):
                return False
            compared = True
    return compared


def _rewrites(exam: Examination, kind: Invariance) -> Iterator[tuple[str, Estimate, tuple[Subject, ...]]]:
    for case, before in exam.estimates:
        yield case.name, before, case.rewrites().get(kind, ())
