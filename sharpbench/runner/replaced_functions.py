"""What a measure replaced for all cells after it, found and put back: functions of libraries, and our constants."""

from __future__ import annotations

import builtins
import functools
import math
import operator
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Namespace = ModuleType | type
LIBRARIES: tuple[Namespace, ...] = (
    *(builtins, math, time, np, np.linalg),
    *(torch, torch.Tensor, torch.Generator, torch.autograd, torch.func, torch.linalg, torch.special),
    *(functional, nn.Module, nn.Linear, nn.Conv2d, torch.autograd.Function),
)
"""What measures compute with. Everything of sharpbench that is imported is watched in addition."""
OWN_PACKAGE = __name__.partition(".")[0]


class ReplacedFunctions:
    """The functions and classes in the namespaces of LIBRARIES and of sharpbench, and its constants, as they are now.

    A library may replace its own functions, as torch does when parts of it are first imported; others may not.
    """

    def __init__(self) -> None:
        self._before = [(space, dict(vars(space))) for space in _namespaces()]

    def restore(self) -> tuple[str, ...]:
        """Put back what was replaced by code of others; the names of it."""
        found = []
        for space, before in self._before:
            for name, value in _changed_items(space, before):
                if _belongs_to(space, value):
                    continue
                found.append(f"{space.__name__}.{name}")
                if name in before:
                    setattr(space, name, before[name])
                else:
                    delattr(space, name)
        return tuple(found)


def _namespaces() -> Iterator[Namespace]:
    yield from LIBRARIES
    for name, module in [item for item in sys.modules.items() if item[0].startswith(OWN_PACKAGE)]:
        if name.partition(".")[0] == OWN_PACKAGE and isinstance(module, ModuleType):
            yield module
            yield from _classes_of(module, name, len(vars(module)))


@functools.cache
def _classes_of(module: ModuleType, name: str, size: int) -> tuple[type, ...]:
    """The classes that a module of this many names defines; found once, as it takes most of a guard's time."""
    return tuple(value for value in list(vars(module).values()) if isinstance(value, type) and value.__module__ == name)


def _changed_items(space: Namespace, before: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names with new values, where the old value was callable or a constant, or an inherited one is hidden now."""
    now = vars(space)
    if len(now) == len(before) and all(map(operator.is_, now.values(), before.values())):
        return
    is_own = _package(space) == OWN_PACKAGE
    for name, value in list(now.items()):
        if name in before:
            if value is not before[name] and (callable(before[name]) or (is_own and name.isupper())):
                yield name, value
        elif isinstance(space, type) and any(name in vars(parent) for parent in space.__mro__[1:]):
            yield name, value
    for name in before.keys() - now.keys():
        if callable(before[name]) or (is_own and name.isupper()):
            yield name, None


def _package(space: Namespace) -> str:
    return (space.__module__ if isinstance(space, type) else space.__name__).partition(".")[0]


def _belongs_to(space: Namespace, value: object) -> bool:
    """Whether the value is of the package of the namespace."""
    package = _package(space)
    code = getattr(value, "__code__", None)
    if code is None:
        return value is not None and str(getattr(value, "__module__", "")).partition(".")[0] == package
    folder = getattr(sys.modules.get(package), "__file__", None)
    return folder is not None and Path(folder).parent in Path(code.co_filename).parents
