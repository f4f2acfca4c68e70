"""The standard error of any measure over the draw of the examples, from values without a group of them each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from sharpbench.core.subject import Subject
from sharpbench.errors import InvalidInput

GROUPS = 10
"""As many are usual: each value then has nine tenths of the examples."""


def check_groups(groups: int, examples: int | None = None, *, name: str = "jackknife") -> None:
    """Raise InvalidInput for a number of groups that gives no standard error, or more than `examples`.

    name: what the user calls the number.
    """
    if not 2 <= groups <= 1000:
        raise InvalidInput(f"{name}={groups} must be from 2 to 1000 groups of examples")
    if examples is not None and examples < groups:
        raise InvalidInput(f"{name}={groups} exceeds the {examples} examples; use at most as many groups as examples")


@dataclass(frozen=True, slots=True)
class GroupJackknife:
    """A value on all examples, and without each of several groups of them.

    Args:
        without: For each group the number of all examples per example of the group, and the value without the group.
    """

    value: float
    without: tuple[tuple[float, float], ...]

    @property
    def stderr(self) -> float:
        """The delete-a-group jackknife's standard error.

        Groups of unequal sizes count by them (Busing, Meijer, van der Leeden 1999, Delete-m jackknife for unequal m).
        """
        groups = len(self.without)
        centre = groups * self.value - sum((1 - 1 / ratio) * other for ratio, other in self.without)
        pseudo = [(ratio, ratio * self.value - (ratio - 1) * other) for ratio, other in self.without]
        return math.sqrt(sum((each - centre) ** 2 / (ratio - 1) for ratio, each in pseudo) / groups)

    def minus(self, other: GroupJackknife) -> GroupJackknife:
        """The difference of two values on the same examples in the same groups."""
        pairs = zip(self.without, other.without, strict=True)
        return GroupJackknife(self.value - other.value, tuple((ratio, one - two) for (ratio, one), (_, two) in pairs))


def jackknife_groups(value: float, subject: Subject, groups: int, of: Callable[[Subject], float]) -> GroupJackknife:
    """`value` = of(subject) and its values without each of `groups` random groups of the examples.

    The groups are the same at every call with as many examples. The cost is that of `groups` evaluations on most of the
    examples. Raises InvalidInput for fewer examples than groups.
    """
    count = subject.n
    check_groups(groups, count)
    left = _without_groups(subject, groups)
    return GroupJackknife(value, tuple((count / (count - each.n), of(each)) for each in left))


def _without_groups(subject: Subject, groups: int) -> Iterator[Subject]:
    """The subject without each group of its examples, which keep their order."""
    order = torch.randperm(subject.n, generator=torch.Generator().manual_seed(0))
    for group in order.tensor_split(groups):
        kept = torch.ones(len(order), dtype=torch.bool)
        kept[group] = False
        yield subject.take(kept.nonzero().squeeze(1))
