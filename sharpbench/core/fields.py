"""Hyperparameter: whether the fields of a named value hold what their annotations say."""

from __future__ import annotations

import math
import types
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sharpbench.errors import InvalidInput, near, short


def check_fields(chosen: Any, *, kind: str = "measure") -> None:
    """Raises InvalidInput for a field that is not of its annotation: an option, a number, a truth value or text.

    Python checks no annotation, and what is none of its options would be taken for the last of them. Whole numbers
    are numbers too; truth values are none; numbers are finite. Other annotations are not looked at.
    """
    for name, annotation in _annotations(type(chosen)):
        value = getattr(chosen, name)
        if wrong := field_error(value, annotation):
            raise InvalidInput(f"{kind} '{chosen.name}': {name}={short(str(value))} {wrong}")


def _annotations(cls: type) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(cls)
    return tuple((item.name, hints[item.name]) for item in fields(cls))


def field_error(value: object, annotation: Any) -> str:
    """What completes the sentence '<name>=<value> ...', or '' where `value` is of that annotation."""
    options = get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        if any(value is None if option is type(None) else not field_error(value, option) for option in options):
            return ""
        return field_error(value, next(option for option in options if option is not type(None)))
    if get_origin(annotation) is Literal:
        return "" if any(type(value) is type(each) and value == each for each in options) else _none_of(value, options)
    if annotation is bool:
        return "" if isinstance(value, bool) else "is neither true nor false"
    if annotation is int:
        return "" if isinstance(value, int) and not isinstance(value, bool) else "is no whole number"
    if annotation is float:
        return _no_number(value)
    return "is no text" if annotation is str and not isinstance(value, str) else ""


def _no_number(value: object) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "is no number"
    try:
        return "" if math.isfinite(value) else "is not finite"
    except OverflowError:  # a whole number beyond the largest float
        return "is too large"


def _none_of(value: object, options: tuple[object, ...]) -> str:
    words = [str(each) for each in options]
    hint = near(str(value), words)
    return f"is none of {', '.join(words)}" + (f"; {hint}" if hint else "")


Scalar = str | int | float | bool | None


def is_scalar(value: object) -> bool:
    """Whether JSON holds `value` as it is: text, a finite number, a truth value or None."""
    if isinstance(value, int | float):
        return is_finite(value)
    return isinstance(value, str | None)


def is_finite(value: float) -> bool:
    """Whether `value` is finite as a float: neither infinite nor NaN, nor a whole number beyond the largest float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
