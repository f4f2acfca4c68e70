"""Claims: the invariances that a measure claims, under random rewrites, and those that it might."""

from __future__ import annotations

import typing
from collections.abc import Iterator

from sharpbench.core.measure import Estimate, Invariance, NotApplicable
from sharpbench.core.subject import Subject
from sharpbench.testing.examination import Examination, Skipped, rounding

KINDS: tuple[Invariance, ...] = typing.get_args(Invariance)


def claimed(exam: Examination, kind: Invariance) -> str:
    """The value stays under every rewrite of this kind that the subjects have."""
    if kind not in exam.chosen.invariances():
        raise Skipped("not claimed")
    return exam.compare_all(
        [(before, other, f"{name}, {kind}") for name, before, others in _rewritten(exam, kind) for other in others]
    )


def unclaimed(exam: Examination) -> str:
    """The finding: kinds that are not claimed although the value never changed under them."""
    left = [kind for kind in KINDS if kind not in exam.chosen.invariances()]
    found = [kind for kind in left if _never_changes(exam, kind)]
    return f"never changes under {', '.join(found)}; invariances() might say so" if found else ""


def _never_changes(exam: Examination, kind: Invariance) -> bool:
    """Beyond rounding: a value that is sampled has to be equal too, which the same seed makes it."""
    seen = False
    for _, before, others in _rewritten(exam, kind):
        for other in others:
            try:
                after = exam.estimate(other)
            except NotApplicable:
                return False
            if abs(after.value - before.value) > rounding(after.value, before.value, exam.rtol):
                return False
            seen = True
    return seen


def _rewritten(exam: Examination, kind: Invariance) -> Iterator[tuple[str, Estimate, tuple[Subject, ...]]]:
    for case, before in exam.estimates:
        yield case.name, before, case.rewrites().get(kind, ())
