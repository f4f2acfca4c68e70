"""Scalar, and whether the fields of a frozen dataclass hold what their annotations state."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sharpbench.errors import InvalidInput, shorten, suggest_names

Scalar = str | int | float | bool | None
"""A value that JSON holds as it is: text, a finite number, true, false or none."""
MAX_NAMED_FIELDS = 5
"""Fields that an error message about missing or unknown fields names."""
T = TypeVar("T")


def is_scalar(value: object) -> bool:
    """Whether JSON holds `value` as it is: text, a finite number, true, false or None."""
    if isinstance(value, int | float):
        return is_finite(value)
    return isinstance(value, str | None)


def is_finite(value: float) -> bool:
    """Whether `value` is finite as a float: not NaN, not infinite, not an integer beyond the largest float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def from_row(cls: type[T], row: object, *, remedy: str = "") -> T:
    """The instance of the dataclass `cls` with the fields `row`, an object of JSON.

    Raises InvalidInput, which names `remedy`, where the row lacks a field or has another one. The constructor checks
    the values.
    """
    return cls(**check_names(row, (item.name for item in fields(cls)), remedy=remedy))  # type: ignore[arg-type]


def choose_options(kind: Callable[..., T], options: T | None, keywords: Mapping[str, object]) -> T:
    """The options of a function that takes a value of `kind` or, as keywords, its fields.

    Raises InvalidInput where both are given.
    """
    if options is not None and keywords:
        raise InvalidInput(f"options and {', '.join(keywords)} are given; give either the value or its fields")
    return options or kind(**keywords)


def check_names(row: object, names: Iterable[str], *, remedy: str = "") -> dict[str, Any]:
    """The object `row` itself. Raises InvalidInput unless it is a dictionary that has exactly the keys `names`."""
    odd = sorted(set(row) ^ set(names)) if isinstance(row, dict) else [type(row).__name__]
    if odd or not isinstance(row, dict):
        named = ", ".join(map(shorten, odd[:MAX_NAMED_FIELDS]))
        raise InvalidInput(f"missing or unknown fields: {named}" + (f"; {remedy}" if remedy else ""))
    return row


def check_fields(chosen: Any, *, kind: str = "measure") -> None:
    """Raise InvalidInput where a field of the named value `chosen` does not have the type of its annotation.

    Python checks no annotation, and code that tests the options of a Literal one by one would treat any other value
    as the last. `kind` names the value in the message.
    """
    if wrong := type_error(chosen, show=str):
        raise InvalidInput(f"{kind} '{chosen.name}': {wrong}")


def type_error(instance: Any, *, show: Callable[[object], str] = repr) -> str:
    """What is wrong with the first field of a dataclass that does not fit its annotation, or ''.

    show: how the value is written in the message, `str` where users type it.
    """
    cls: Any = type(instance)
    for name, annotation, exact, held, options, default in _annotations(cls):
        value = getattr(instance, name)
        if value is default:
            continue
        kind = type(value)
        if kind is dict:
            sound = bool(held) and (not value or _holds_only(value, held))
        elif kind is str:
            sound = kind in exact or value in options
        else:
            sound = _is_sound(value, exact)
        if sound:
            continue
        if wrong := field_error(value, annotation):
            return f"{name}={shorten(show(value))} {wrong}"
    return ""


@cache
def _annotations(cls: Any) -> tuple[tuple[str, Any, frozenset[type], frozenset[type], frozenset[str], object], ...]:
    """Each field's name, its annotation, the `_exact_types` of that and of the values of a mapping, the texts of a
    Literal, and a default value that fits."""
    hints, found = get_type_hints(cls), []
    for item in fields(cls):
        annotation = hints[item.name]
        origin, arguments = get_origin(annotation), get_args(annotation)
        held = _exact_types(arguments[1]) if origin in (Mapping, dict) else frozenset()
        options = frozenset(each for each in arguments if origin is Literal and isinstance(each, str))
        default = MISSING if field_error(item.default, annotation) else item.default
        found.append((item.name, annotation, _exact_types(annotation), held, options, default))
    return tuple(found)


def _holds_only(mapping: dict[Any, Any], exact: frozenset[type]) -> bool:
    """Whether all keys are text and all values have one of the types `exact` and are finite."""
    try:
        for key, value in mapping.items():  # without calls, which take longer than the checks
            kind = type(value)
            if type(key) is not str or kind not in exact:
                return False
            if (kind is float or kind is int) and not math.isfinite(value):
                return False
    except OverflowError:  # an integer beyond the largest float
        return False
    return True


def field_error(value: object, annotation: Any) -> str:
    """What completes the sentence '<name>=<value> ...', or '' where `value` has the type `annotation`.

    Known are bool, int, float, str, Literal, unions of these, and mappings from text to these; any other annotation
    allows every value. Integers are numbers; booleans are not; numbers are finite.
    """
    if type(value) in _exact_types(annotation):
        return _number_error(value) if type(value) in (int, float) else ""
    if get_origin(annotation) in (Union, types.UnionType):
        return _union_error(value, get_args(annotation))
    if get_origin(annotation) is Literal:
        return _option_error(value, get_args(annotation))
    if get_origin(annotation) in (Mapping, dict):
        return _mapping_error(value, get_args(annotation)[1])
    if annotation is bool:
        return "" if isinstance(value, bool) else "is neither true nor false"
    if annotation is int:
        return "" if isinstance(value, int) and not isinstance(value, bool) else "is not a whole number"
    if annotation is float:
        return _number_error(value)
    return "is not text" if annotation is str and not isinstance(value, str) else ""


@cache
def _exact_types(annotation: Any) -> frozenset[type]:
    """The types of which `annotation` allows every value, up to numbers that are not finite."""
    if get_origin(annotation) in (Union, types.UnionType):
        return frozenset().union(*map(_exact_types, get_args(annotation)))
    if annotation is float:
        return frozenset({float, int})
    return frozenset({annotation} if annotation in (bool, int, str, types.NoneType) else ())


def _is_sound(value: Any, exact: frozenset[type]) -> bool:
    """Whether `value` has one of the types `exact` and is finite: the quick way to pass for nearly every field."""
    kind = type(value)
    return kind in exact and (kind not in (int, float) or is_finite(value))


def _union_error(value: object, options: tuple[Any, ...]) -> str:
    """The complaint of the first option other than None, where no option allows `value`."""
    named = [option for option in options if option is not types.NoneType]
    if value is None and len(named) < len(options):
        return ""
    complaints = [field_error(value, option) for option in named]
    if "" in complaints:
        return ""
    any_scalar = set(options) == set(get_args(Scalar))
    return "is not text, a finite number, true, false or none" if any_scalar else complaints[0]


def _mapping_error(value: object, annotation: Any) -> str:
    if not isinstance(value, dict):
        return "is not a dictionary"
    exact = _exact_types(annotation)
    for key, held in value.items():
        if not isinstance(key, str):
            return f"has the key {shorten(repr(key))}, which is not text"
        if not _is_sound(held, exact) and (wrong := field_error(held, annotation)):
            return f"has {shorten(key)}={shorten(repr(held))}, which {wrong}"
    return ""


def _number_error(value: object) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "is not a number"
    try:
        return "" if math.isfinite(value) else "is not finite"
    except OverflowError:  # an integer beyond the largest float
        return "is too large"


def _option_error(value: object, options: tuple[object, ...]) -> str:
    if any(type(value) is type(each) and value == each for each in options):
        return ""
    words = [str(each) for each in options]
    hint = suggest_names(str(value), words)
    return f"is none of {', '.join(words)}" + (f"; {hint}" if hint else "")
