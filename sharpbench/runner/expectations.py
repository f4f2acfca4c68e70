"""Whether the accuracy of a network is what the user or its file states: otherwise its inputs are prepared wrongly."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sharpbench.errors import InvalidInput

ACCURACY_TOLERANCE = 0.005
"""Half a percentage point: the largest difference between an expected accuracy and the one found on all examples."""
MIN_SHORTFALL = 0.03
"""Three percentage points: an accuracy that is lower by more than the stated one is reported."""
STANDARD_ERRORS = 3.0
"""Standard errors of the accuracy on a sample that both tolerances allow for."""
CHANCE_FACTOR, MIN_CHANCE_EXAMPLES = 1.5, 20
"""Accuracies up to this multiple of that of a guess are reported, if there are at least so many examples."""
REMEDY = "check --mean and --std, or --transform, and the numbers of the classes"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAccuracy:
    """The accuracy of a network on examples.

    Attributes:
        value: from 0 to 1; None where the loss is not finite.
        examples: their number.
        sampled: whether they were drawn from more.
        classes: the number of classes.
    """

    value: float | None
    examples: int
    sampled: bool
    classes: int

    @property
    def stderr(self) -> float:
        """The largest standard error that the draw of the examples can give; 0 for all examples."""
        return 0.5 / math.sqrt(self.examples) if self.sampled else 0.0


def check_accuracy(found: FoundAccuracy, expected: float, *, where: str) -> None:
    """Raise InvalidInput where the accuracy at the weights `where` is not the expected one."""
    tolerance = ACCURACY_TOLERANCE + STANDARD_ERRORS * found.stderr
    if found.value is None or abs(found.value - expected) > tolerance:
        shown = "not finite" if found.value is None else f"{found.value:.1%}"
        raise InvalidInput(
            f"the accuracy at weights '{where}' is {shown} on {found.examples:,} examples where {expected:.1%} is "
            f"expected (within {tolerance:.1%}); {REMEDY}"
        )


def describe_shortfall(found: FoundAccuracy, stated: float | None, *, where: str) -> str:
    """A warning where the accuracy is far below the one that the weight file states, or that of a guess; else ''."""
    if found.value is None:
        return ""
    if stated is not None:
        if found.value >= stated - MIN_SHORTFALL - STANDARD_ERRORS * found.stderr:
            return ""
        return (
            f"warning: weights '{where}' state an accuracy of {stated:.1%}, here it is {found.value:.1%} on "
            f"{found.examples:,} examples; {REMEDY}"
        )
    if found.examples < MIN_CHANCE_EXAMPLES or found.value > CHANCE_FACTOR / found.classes:
        return ""
    return (
        f"warning: the accuracy at weights '{where}' is {found.value:.1%} on {found.examples:,} examples of "
        f"{found.classes} classes, that of a guess; {REMEDY}"
    )
