"""Repetition: the same again, and what may not matter: batches, order, duplicates, randomness of the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from sharpbench.core.measure import Estimate, Measure
from sharpbench.core.subject import Subject
from sharpbench.testing.examination import Examination, Failed, Skipped, rounding

EXACT = 1e-12
"""The same computation again; threads may add in another order."""


def seed(exam: Examination) -> str:
    """The same seed gives the same estimate."""
    for case, before in exam.estimates:
        after = exam.estimate(case.subject)
        if not _identical(before, after):
            raise Failed(f"{case.name}: {before.value!r}, and {after.value!r} under the same seed")
    return ""


def preparation(exam: Examination) -> str:
    """The same estimate where the measure was told to prepare itself, as it is before it is timed."""
    if type(exam.chosen).prepare is Measure.prepare:
        raise Skipped("prepares nothing")
    for case, before in exam.estimates:
        after = exam.estimate(case.subject, prepared=True)
        if not _identical(before, after):
            raise Failed(f"{case.name}: {before.value!r}, and {after.value!r} where it was prepared")
    return ""


def batch_size(exam: Examination) -> str:
    """One example a batch, and all in one."""
    return exam.compare_all(
        [
            (before, replace(case.subject, batch_size=size), f"{case.name}, {size} examples a batch")
            for case, before in exam.estimates
            for size in sorted({1, len(case.subject.inputs)} - {case.subject.batch_size})
        ]
    )


def order(exam: Examination) -> str:
    """The examples in another order."""
    if "micro-batches" in type(exam.chosen).depends:
        raise Skipped("depends on micro-batches, which the order makes")
    return exam.compare_all(_elsewhere(exam, _reordered, "in another order"))


def duplicated(exam: Examination) -> str:
    """Every example twice: a mean over examples stays; what depends on the data set's size has to change."""
    depends = type(exam.chosen).depends
    if "dataset-size" in depends:
        return _has_to_change(exam)
    if "micro-batches" in depends:
        raise Skipped("depends on micro-batches, which duplicates may make anew")
    return exam.compare_all(_elsewhere(exam, _doubled, "with every example twice"))


def writes(exam: Examination) -> str:
    """Nothing but the estimate, over all calls of all checks."""
    if exam.witness.written:
        raise Failed(f"writes to {', '.join(sorted(exam.witness.written))}; work on copies")
    return ""


def randomness(exam: Examination) -> str:
    """The generator that it is given is the only randomness, over all calls of all checks."""
    if exam.witness.drawn:
        raise Failed(f"draws from {', '.join(sorted(exam.witness.drawn))}; draw from `generator` alone")
    for case, before in exam.estimates:
        after = exam.estimate(case.subject, elsewhere=1)
        if not _identical(before, after):
            raise Failed(f"{case.name}: {before.value:.8g} becomes {after.value:.8g} when the process is seeded anew")
    return ""


def _identical(one: Estimate, other: Estimate) -> bool:
    return abs(one.value - other.value) <= rounding(one.value, other.value, EXACT)


def _has_to_change(exam: Examination) -> str:
    if not exam.estimates:
        raise Skipped("no subject to try it on")
    for case, before in exam.estimates:
        after = exam.estimate(_doubled(case.subject))
        if abs(after.value - before.value) > rounding(after.value, before.value, exam.rtol):
            return f"depends on the data set's size, as it says: {before.value:.4g} becomes {after.value:.4g}"
    raise Failed("says that it depends on dataset-size, and never changes when every example is there twice")


def _elsewhere(exam: Examination, move: Callable[[Subject], Subject], how: str) -> list[tuple[Estimate, Subject, str]]:
    return [(before, move(case.subject), f"{case.name}, {how}") for case, before in exam.estimates]


def _reordered(subject: Subject) -> Subject:
    """Every example at another place, and the batches of others."""
    half = len(subject.inputs) // 2
    return replace(subject, inputs=subject.inputs.roll(half, 0), targets=subject.targets.roll(half, 0))


def _doubled(subject: Subject) -> Subject:
    def twice(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor])

    size = None if subject.train_size is None else 2 * subject.train_size
    return replace(subject, inputs=twice(subject.inputs), targets=twice(subject.targets), train_size=size)
