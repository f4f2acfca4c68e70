"""The standard error of any measure over the draw of the examples, from values without a group of them each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from sharpbench.core.subject import Subject
from sharpbench.errors import InvalidInput

GROUPS = 10
"""As many are usual: each value then has nine tenths of the examples."""


def check_groups(groups: int, examples: int | None = None) -> None:
    """Raise InvalidInput for a number of groups that gives no standard error, or more than `examples`."""
    if not 2 <= groups <= 1000:
        raise InvalidInput(f"jackknife={groups} must be from 2 to 1000 groups of examples")
    if examples is not None and examples < groups:
        raise InvalidInput(f"jackknife={groups} groups of {examples} examples; use at most as many groups as examples")


def jackknife_stderr(value: float, subject: Subject, groups: int, of: Callable[[Subject], float]) -> float:
    """The delete-a-group jackknife's standard error of `value` = of(subject).

    The examples are put into `groups` random groups, the same ones at every call, and `of` is evaluated without each:
    its cost is that of `groups` evaluations on most of the examples. Groups of unequal sizes count by them (Busing,
    Meijer, van der Leeden 1999, Delete-m jackknife for unequal m). Raises InvalidInput for fewer examples than groups.
    """
    count = subject.n
    check_groups(groups, count)
    found = [(count / (count - left.n), of(left)) for left in _without_groups(subject, groups)]
    centre = groups * value - sum((1 - 1 / ratio) * other for ratio, other in found)
    pseudo = [(ratio, ratio * value - (ratio - 1) * other) for ratio, other in found]
    return math.sqrt(sum((each - centre) ** 2 / (ratio - 1) for ratio, each in pseudo) / groups)


def _without_groups(subject: Subject, groups: int) -> Iterator[Subject]:
    """The subject without each group of its examples, which keep their order."""
    order = torch.randperm(subject.n, generator=torch.Generator().manual_seed(0))
    for group in order.tensor_split(groups):
        kept = torch.ones(len(order), dtype=torch.bool)
        kept[group] = False
        yield subject.take(kept.nonzero().squeeze(1))
