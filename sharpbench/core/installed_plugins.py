"""Entry points of the installed packages, read once and again where a folder of Python's path changes."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Literal, get_args

from sharpbench.errors import one_line

Kind = Literal["measures", "models", "datasets", "optimizers", "cohorts"]
KINDS: tuple[Kind, ...] = get_args(Kind)
METADATA_ENDINGS = (".dist-info", ".egg-info", ".egg")
"""Of the names of folders and archives that hold a package's metadata."""


@dataclass(frozen=True, slots=True)
class PluginPoint:
    """An entry point: the package that declares it, that package's version, its name, what it names: a module.

    load: imports the module.
    """

    package: str
    version: str
    name: str
    value: str
    load: Callable[[], ModuleType]


@dataclass(frozen=True, slots=True)
class InstalledPlugins:
    """points: the entry points of each kind, our own first, then by package name. damaged: package -> cause, of those
    whose entry points name sharpbench and cannot be read."""

    points: dict[Kind, tuple[PluginPoint, ...]]
    damaged: dict[str, str]


def installed_plugins() -> InstalledPlugins:
    """The entry points of all installed packages.

    They are read at the first call in a process, which takes milliseconds, and again where the packages in the folders
    of `sys.path` have changed: a package that is installed, upgraded or removed in a running notebook is seen at the
    next call. A file of metadata that is edited in place is not.
    """
    return _read(_path_state())


def _path_state() -> object:
    """The folders of Python's path with the metadata of packages in each.

    A folder is listed again where an entry was added or removed, as scripts do that write files next to themselves.
    """
    folders = [folder or os.curdir for folder in sys.path]
    return tuple((folder, _list_metadata(folder, _changed_at(folder))) for folder in folders)


def _changed_at(folder: str) -> int | None:
    try:
        return os.stat(folder).st_mtime_ns
    except (OSError, ValueError):  # a folder that does not exist
        return None


@lru_cache(maxsize=64)
def _list_metadata(folder: str, changed_at: int | None) -> tuple[tuple[str, int | None], ...]:
    """The name and time of change of each package's metadata in a folder, or of an archive."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # an archive, or a folder that does not exist
        return (("", changed_at),)
    return tuple((name, _changed_at(os.path.join(folder, name))) for name in names if name.endswith(METADATA_ENDINGS))


@lru_cache(maxsize=1)
def _read(state: object) -> InstalledPlugins:
    try:
        found = {kind: list(importlib.metadata.entry_points(group=f"sharpbench.{kind}")) for kind in KINDS}
        return InstalledPlugins({kind: _sorted_points(points) for kind, points in found.items()}, {})
    except Exception:  # whatever the parser raises at one package's file, it raises for all packages
        packages = list(_read_packages())
    every = [point for _, points, _ in packages for point in points]
    sound = {kind: _sorted_points([point for point in every if point.group == f"sharpbench.{kind}"]) for kind in KINDS}
    return InstalledPlugins(sound, {name: cause for name, _, cause in packages if cause is not None})


def _sorted_points(points: list[importlib.metadata.EntryPoint]) -> tuple[PluginPoint, ...]:
    """The points, our own first. A point without a distribution is named by its module."""
    described = []
    for point in points:
        package, version = (point.value, "") if point.dist is None else (point.dist.name, point.dist.version)
        described.append(PluginPoint(package, version, point.name, point.value, point.load))
    return tuple(sorted(described, key=lambda each: (each.package != "sharpbench", each.package, each.name)))


def _read_packages() -> Iterator[tuple[str, list[importlib.metadata.EntryPoint], str | None]]:
    """Each installed package once: its name, its entry points, and why they cannot be read where they name sharpbench.

    The first folder of the path that holds a package is the one that is imported.
    """
    seen: set[str] = set()
    for package in importlib.metadata.distributions():
        name = str(package.metadata["Name"])
        plain_name = re.sub(r"[-_.]+", "-", name).lower()
        if plain_name in seen:
            continue
        seen.add(plain_name)
        try:
            yield name, list(package.entry_points), None
        except Exception as error:  # as above
            ours = "sharpbench." in (package.read_text("entry_points.txt") or "")
            yield name, [], f"its entry_points.txt cannot be read: {describe_fault(error)}" if ours else None


def describe_fault(error: BaseException) -> str:
    """The type and text of what a plugin raised, on one line."""
    return one_line(" ".join(f"{type(error).__name__}: {error}".split()))
