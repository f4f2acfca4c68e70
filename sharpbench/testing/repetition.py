"""Changes that must not change the value: repetition, batches, order, duplicates, global generators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from sharpbench.core.measure import Estimate, Measure
from sharpbench.core.subject import Subject
from sharpbench.testing.examination import CheckFailed, CheckSkipped, Examination, rounding_tolerance

REPEAT_RTOL = 1e-12
"""The relative difference of a repeated computation; threads may add in another order."""


def check_seed(exam: Examination) -> str:
    """The same seed gives the same estimate."""
    for case, before in exam.estimates:
        after = exam.estimate(case.subject)
        if not _identical(before, after):
            raise CheckFailed(f"{case.name}: {before.value!r}, and {after.value!r} under the same seed")
    return ""


def check_preparation(exam: Examination) -> str:
    """The estimate is the same after `Measure.prepare`, which is called before a measure is timed."""
    if type(exam.measure).prepare is Measure.prepare:
        raise CheckSkipped("prepares nothing")
    for case, before in exam.estimates:
        after = exam.estimate(case.subject, prepared=True)
        if not _identical(before, after):
            raise CheckFailed(f"{case.name}: {before.value!r}, and {after.value!r} where it was prepared")
    return ""


def check_batch_size(exam: Examination) -> str:
    """The value is the same with one example per batch and with all examples in one batch."""
    return exam.compare_all(
        [
            (before, replace(case.subject, batch_size=size), f"{case.name}, {size} examples a batch")
            for case, before in exam.estimates
            for size in sorted({1, case.subject.n} - {case.subject.batch_size})
        ]
    )


def check_order(exam: Examination) -> str:
    """The value is the same with the examples in another order."""
    if "micro-batches" in type(exam.measure).depends:
        raise CheckSkipped("depends on micro-batches, which the order changes")
    return exam.compare_all(_change_all(exam, _reorder, "in another order"))


def check_duplicated_data(exam: Examination) -> str:
    """The value is the same with every example twice; it changes if the measure depends on the data set's size."""
    depends = type(exam.measure).depends
    if "dataset-size" in depends:
        return _check_changes(exam)
    if "micro-batches" in depends:
        raise CheckSkipped("depends on micro-batches, which duplicates may change")
    return exam.compare_all(_change_all(exam, _duplicate, "with every example twice"))


def check_writes(exam: Examination) -> str:
    """No call of any check has written to a tensor or to the measure."""
    if exam.monitor.written:
        raise CheckFailed(f"writes to {', '.join(sorted(exam.monitor.written))}; work on copies")
    return ""


def check_randomness(exam: Examination) -> str:
    """No call of any check has drawn from another generator than the one that the measure is given."""
    if exam.monitor.drawn:
        raise CheckFailed(f"draws from {', '.join(sorted(exam.monitor.drawn))}; draw only from `generator`")
    for case, before in exam.estimates:
        after = exam.estimate(case.subject, global_seed=1)
        if not _identical(before, after):
            raise CheckFailed(
                f"{case.name}: {before.value:.8g} becomes {after.value:.8g} when the process has another seed"
            )
    return ""


def _identical(one: Estimate, other: Estimate) -> bool:
    return abs(one.value - other.value) <= rounding_tolerance(one.value, other.value, REPEAT_RTOL)


def _check_changes(exam: Examination) -> str:
    if not exam.estimates:
        raise CheckSkipped("no subject to try it on")
    for case, before in exam.estimates:
        after = exam.estimate(_duplicate(case.subject))
        if abs(after.value - before.value) > rounding_tolerance(after.value, before.value, exam.rtol):
            return f"depends on the data set's size, as declared: {before.value:.4g} becomes {after.value:.4g}"
    raise CheckFailed("declares that it depends on dataset-size, but never changes when every example is there twice")


def _change_all(
    exam: Examination, change: Callable[[Subject], Subject], how: str
) -> list[tuple[Estimate, Subject, str]]:
    return [(before, change(case.subject), f"{case.name}, {how}") for case, before in exam.estimates]


def _reorder(subject: Subject) -> Subject:
    """The subject with the second half of the examples first."""
    return subject.take(torch.arange(subject.n).roll(subject.n // 2))


def _duplicate(subject: Subject) -> Subject:
    size = None if subject.train_size is None else 2 * subject.train_size
    return replace(subject.take(torch.arange(subject.n).repeat(2)), train_size=size)
