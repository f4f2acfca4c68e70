"""Micro-batches: the examples of a subject in groups of a fixed size, each a subject of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sharpbench.core.subject import Subject


def micro_batches(subject: Subject, size: int | None) -> Iterator[tuple[float, Subject]]:
    """The share of the examples that each micro-batch has, and the subject of its examples alone.

    `size` examples at a time in their order, whatever the subject's batch size; the last may be smaller. None: all
    examples are one.
    """
    count = len(subject.inputs)
    for start in range(0, count, size or count):
        some = slice(start, start + (size or count))
        inputs = subject.inputs[some]
        yield len(inputs) / count, replace(subject, inputs=inputs, targets=subject.targets[some])
