"""Libraries whose code a process has imported in addition to what sharpbench itself requires."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from functools import cache

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name


def imported_libraries(modules: Iterable[str]) -> dict[str, str]:
    """Name and version of the distributions of top-level `modules`, without sharpbench and its requirements.

    >>> imported_libraries(["torch", "json"])
    {}
    """
    distributions = _distributions_by_module()
    names = {name for module in modules for name in distributions.get(module, ())}
    required = required_libraries()
    return {name: importlib.metadata.version(name) for name in sorted(names) if canonicalize_name(name) not in required}


def installed_version(name: str) -> str | None:
    """The installed version of a distribution; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def _distributions_by_module() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@cache
def required_libraries() -> frozenset[str]:
    """sharpbench and, transitively, everything that it requires without extras."""
    names: set[str] = set()
    waiting = ["sharpbench", "pip", "setuptools"]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in names:
            names.add(name)
            waiting += _requirements(name)
    return frozenset(names)


def _requirements(name: str) -> list[str]:
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [requirement.name for line in lines if (requirement := _parse_requirement(line)) and _applies(requirement)]


def _parse_requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})
