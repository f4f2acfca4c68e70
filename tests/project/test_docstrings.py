"""Docstrings of the public names: none leaves out a parameter."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import sharpbench

ERRORS = ("InvalidInput", "NotApplicable")
FUNCTIONS = [name for name in sharpbench.__all__ if inspect.isroutine(getattr(sharpbench, name))]
CLASSES = [name for name in sharpbench.__all__ if inspect.isclass(getattr(sharpbench, name)) and name not in ERRORS]


def parameters(function: Callable[..., Any]) -> list[str]:
    named = inspect.signature(function).parameters
    return [name for name, each in named.items() if name not in ("self", "cls") and each.kind != each.VAR_POSITIONAL]


def has_item(docstring: str, name: str) -> bool:
    """Whether a section of the docstring has a line `name: ...`, or one of several names."""
    return re.search(rf"^ +(?:\w+, )*{name}(?:, \w+)*: \S", docstring, re.MULTILINE) is not None


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_each_argument_has_its_line(name: str) -> None:
    """Those of a class may be said by the class that it extends."""
    public = getattr(sharpbench, name)
    owners = inspect.getmro(public) if inspect.isclass(public) else (public,)
    said = "\n".join(inspect.getdoc(each) or "" for each in owners)
    assert [each for each in parameters(public) if not has_item(said, each)] == []


@pytest.mark.parametrize("name", CLASSES)
def test_methods_speak_of_each_of_their_arguments(name: str) -> None:
    missing = [
        f"{key}: {each}"
        for key, method in inspect.getmembers(getattr(sharpbench, name), inspect.isroutine)
        if not key.startswith("_") and method.__module__.startswith("sharpbench")
        for each in parameters(method)
        if not re.search(rf"\b{each}\b", inspect.getdoc(method) or "")
    ]
    assert missing == []


def test_what_is_not_said_is_found() -> None:
    said = inspect.getdoc(sharpbench.measure) or ""
    assert [has_item(said, name) for name in ("jackknife", "jack")] == [True, False]
    both = "Args:\n    one, two: both."
    assert [has_item(both, name) for name in ("one", "two", "three")] == [True, True, False]
