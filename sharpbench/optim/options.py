"""Checks of the options that a group of parameters has."""

from __future__ import annotations

from collections.abc import Sequence

from sharpbench.errors import InvalidInput
from sharpbench.optim.parts import Group


def check_option(
    optimizer: object, group: Group, name: str, *, most: float = float("inf"), below: float = float("inf")
) -> None:
    """Checks that an option of a group is a finite number from 0 to its bound.

    Args:
        optimizer: the optimiser, whose class the message names.
        group: the entry of `param_groups`.
        name: the option.
        most: the largest value that is allowed.
        below: a bound that the value must be below.

    Raises:
        InvalidInput: for another value.
    """
    value = group[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= most or not value < below:
        bound = f"from 0 to {most:g}" if most < float("inf") else f"from 0 to below {below:g}"
        needed = "at least 0 and finite" if most == below else bound
        raise InvalidInput(f"{type(optimizer).__name__}: {name}={value!r} must be a number, {needed}")


def check_choice(optimizer: object, group: Group, name: str, choices: Sequence[str]) -> None:
    """Checks that an option of a group is one of the words in `choices`; raises InvalidInput for another value."""
    if group[name] not in choices:
        raise InvalidInput(f"{type(optimizer).__name__}: {name}={group[name]!r} is none of {', '.join(choices)}")
