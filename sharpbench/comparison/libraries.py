"""Libraries: whose code a process has imported beyond what sharpbench itself requires."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from functools import cache

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

OURS = "sharpbench"


def libraries_of(modules: Iterable[str]) -> dict[str, str]:
    """Name -> version of each distribution that top-level `modules` are of, without sharpbench and what it requires."""
    offered = _modules()
    found = {name for module in modules for name in offered.get(module, ())}
    return {name: importlib.metadata.version(name) for name in sorted(found) if canonicalize_name(name) not in known()}


def installed_versions(name: str) -> str | None:
    """The version of a distribution that is installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def _modules() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@cache
def known() -> frozenset[str]:
    """sharpbench and all that it requires without extras, and what these require."""
    names: set[str] = set()
    waiting = [OURS, "pip", "setuptools"]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in names:
            names.add(name)
            waiting += _required(name)
    return frozenset(names)


def _required(name: str) -> list[str]:
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [found.name for line in lines if (found := _parsed(line)) and _holds(found)]


def _parsed(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _holds(found: Requirement) -> bool:
    return found.marker is None or found.marker.evaluate({"extra": ""})
