"""Parsing and formatting of specs such as "minimum,normalized[diagonal=icml]".

Measures, models, data sets, optimisers and cohorts are frozen dataclasses. A spec is a name, with the fields that
differ from their defaults in brackets. A class whose `argument` names one of its fields takes that field after a colon:
timm:resnet18, npz:digits.npz. A field may itself be an object, label-noise[optimizer=sam[rho=0.1]], or several values
joined by plus signs, optimizers[factors=0.5+1+2].
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from sharpbench.core.fields import Scalar
from sharpbench.errors import InvalidInput, shorten, suggest_names

T = TypeVar("T")
Inner = Mapping[type, Mapping[str, type]]
"""For fields that are objects: the class in the annotation -> its installed subclasses by name."""
OPTION = re.compile(r"\s*\w+\s*=")
"""The beginning of an option in brackets."""
PLUS_SIGN = re.compile(r"(?<![0-9.][eE])\+")
"""A plus sign between two values; the one in 1e+5 belongs to a number."""


ALL = "all"
"""The word for every measure."""


def parse_specs(text: str, offered: Mapping[str, type[T]], *, kind: str) -> tuple[T, ...]:
    """The objects that a comma-separated `text` names, in its order, without repetition.

    `kind` names one of them in errors: 'measure', 'model', 'dataset', 'cohort'. Among measures the word 'all' names
    every one that is offered, with its defaults.
    """
    words = split_specs(text)
    if not words:
        raise InvalidInput(f"no {kind} is named; `sharpbench list {kind}s` shows them")
    if kind == "measure":
        words = [each for word in words for each in (offered if word == ALL else (word,))]
    chosen = [parse_spec(word, offered, kind=kind) for word in words]
    return tuple(dict.fromkeys(chosen))


def parse_spec(word: str, offered: Mapping[str, type[T]], *, kind: str, inner: Inner | None = None) -> T:
    """The object that one spec `word` names: name[field=value,...] or name:argument[field=value,...].

    inner: the classes for fields that are themselves objects.
    """
    whole, values = _split_spec(word, kind)
    name, colon, argument = whole.partition(":")
    cls = find_named(name, offered, kind=kind)
    parameters = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    behind = argument_of(cls)
    if bool(argument) != bool(behind) or (colon and not argument):
        written = f"{name}:{behind.upper()}" if behind else f"'{name}', without a colon"
        raise InvalidInput(f"{kind} '{shorten(whole)}' is written {written}")
    if behind:
        if behind in values:
            raise InvalidInput(f"{kind} '{shorten(word)}' gives '{behind}' twice; give it once")
        values = {behind: argument, **values}
    given = {key: _parse_value(kind, name, cls, parameters, key, text, inner or {}) for key, text in values.items()}
    try:
        return cls(**given)
    except InvalidInput:
        raise
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{kind} '{shorten(word)}': {error}") from None


def find_named(name: str, offered: Mapping[str, T], *, kind: str) -> T:
    """The value under `name`. Raises InvalidInput, with similar names, where there is none."""
    if name not in offered:
        raise InvalidInput(
            f"unknown {kind} '{shorten(name)}'; {_hint(name, offered, f'`sharpbench list {kind}s` shows all')}"
        )
    return offered[name]


def split_specs(text: str) -> list[str]:
    """The parts of `text` between commas outside of brackets, stripped, without empty ones."""
    return _split_outside_brackets(text, [position for position, character in enumerate(text) if character == ","])


def _split_outside_brackets(text: str, separators: Iterable[int]) -> list[str]:
    """The parts of `text` between those of the separators, one character each, that are outside of brackets."""
    parts, depth, start, looked = [], 0, 0, 0
    for position in separators:
        depth += text.count("[", looked, position) - text.count("]", looked, position)
        looked = position
        if depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def format_spec(chosen: Any) -> str:
    """The canonical spec of an object: its name, and in brackets the fields that differ from their defaults."""
    behind = argument_of(type(chosen))
    name = f"{chosen.name}:{getattr(chosen, behind)}" if behind else str(chosen.name)
    differing = [
        f"{item.name}={format_value(value)}"
        for item in fields(chosen)
        if item.name != behind and (value := getattr(chosen, item.name)) != _default_of(item)
    ]
    return f"{name}[{','.join(differing)}]" if differing else name


def argument_of(cls: type[Any]) -> str | None:
    """The field of `cls` that is written after a colon in its specs, if there is one."""
    return getattr(cls, "argument", None)


def to_config(chosen: Any) -> dict[str, Scalar]:
    """All fields of an object as JSON scalars; fields annotated as float are floats, so 1 and 1.0 are equal."""
    values = {item.name: getattr(chosen, item.name) for item in fields(chosen)}
    return {
        item.name: float(values[item.name]) if item.type in ("float", float) else values[item.name]
        for item in fields(chosen)
    }


def _hint(name: str, offered: Iterable[str], otherwise: str) -> str:
    return suggest_names(name, offered) or otherwise


def _default_of(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return item.default


def format_value(value: Any) -> str:
    """A field's value as users type it in brackets."""
    if isinstance(value, tuple):
        return "+".join(format_value(each) for each in value)
    if is_dataclass(value):
        return format_spec(value)
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _split_spec(word: str, kind: str) -> tuple[str, dict[str, str]]:
    name, opening, rest = word.partition("[")
    if opening and ":" in name:  # brackets may also be in the name of a file
        name, opening, rest = _split_options(word.strip())
    if not opening:
        return word.strip(), {}
    if not rest.endswith("]") or rest.count("[") != rest.count("]") - 1:
        raise InvalidInput(
            f"{kind} '{shorten(word)}' has unbalanced brackets; write {shorten(name)}[parameter=value,...]"
        )
    values: dict[str, str] = {}
    for part in split_specs(rest[:-1]):
        key, equals, text = part.partition("=")
        key = key.strip()
        if not equals:
            raise InvalidInput(
                f"{kind} '{shorten(word)}': '{shorten(part)}' is not parameter=value; "
                f"write {shorten(name)}[parameter=value,...]"
            )
        if key in values:
            raise InvalidInput(f"{kind} '{shorten(word)}' gives '{shorten(key)}' twice; give it once")
        values[key] = text.strip()
    return name.strip(), values


def _split_options(word: str) -> tuple[str, str, str]:
    """`word` before its last outer bracket, that bracket, and the rest, where this holds options: key=value.

    'npz:a[1].npz' and 'imagefolder:photos [1]' have none, 'npz:a[1].npz[classes=3]' has some.
    """
    depth = 0
    for start in range(len(word) - 1, -1, -1):
        depth += (word[start] == "]") - (word[start] == "[")
        if depth == 0:
            break
    options = word.endswith("]") and depth == 0 and OPTION.match(word, start + 1)
    return (word[:start], "[", word[start + 1 :]) if options else (word, "", "")


def _parse_value(
    kind: str, name: str, cls: type, parameters: Mapping[str, Field[Any]], key: str, text: str, inner: Inner
) -> Any:
    if key not in parameters:
        known = f"it takes {', '.join(parameters)}" if parameters else "it takes none"
        raise InvalidInput(f"{kind} '{name}' has no parameter '{shorten(key)}'; {_hint(key, parameters, known)}")
    annotation = typing.get_type_hints(cls)[key]
    try:
        return _convert(text, annotation, inner)
    except InvalidInput as error:
        raise InvalidInput(f"{kind} '{name}': {key}: {error}") from None
    except ValueError as error:
        raise InvalidInput(f"{kind} '{name}': {key}={shorten(text)} {error}") from None


def _convert(text: str, annotation: Any, inner: Inner) -> Any:
    """`text` as a value of `annotation`; a ValueError completes the sentence '<key>=<text> ...'."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:  # of any number of values
        parts = _split_outside_brackets(text, [found.start() for found in PLUS_SIGN.finditer(text)])
        if not parts:
            raise ValueError("names nothing; join values by plus signs")
        return tuple(_convert(part, arguments[0], inner) for part in parts)
    if annotation in inner:
        return parse_spec(text, inner[annotation], kind=annotation.__name__.lower(), inner=inner)
    if origin in (Union, types.UnionType):
        if text.lower() == "none" and type(None) in arguments:
            return None
        return _convert(text, next(item for item in arguments if item is not type(None)), inner)
    if origin is Literal:
        words = [str(item) for item in arguments]
        if text not in words:
            raise ValueError(
                f"is none of {', '.join(words)}" + (f"; {hint}" if (hint := suggest_names(text, words)) else "")
            )
        return arguments[words.index(text)]
    if annotation is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError("is neither true nor false")
        return text.lower() == "true"
    if annotation is int:
        return _parse_number(text, int, "is not a whole number")
    if annotation is float:
        number = _parse_number(text, float, "is not a number")
        if not math.isfinite(number):
            raise ValueError("is not finite")
        return number
    return text


def _parse_number(text: str, of: type[T], otherwise: str) -> T:
    try:
        return of(text)  # type: ignore[call-arg]
    except ValueError:
        raise ValueError(otherwise) from None
