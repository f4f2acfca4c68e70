"""The identity of code that is not part of sharpbench: hashes of its sources, versions of its libraries."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType

OWN_PACKAGES = ("sharpbench", "sharpbench_measures", "sharpbench_peers")
"""Packages whose code is identified by versions that are set by hand."""
VERSIONED_LIBRARIES = ("timm", "torchvision")
"""Libraries whose version identifies the networks and transforms that foreign code takes from them."""
HASH_DIGITS = 16
"""Hexadecimal digits of a source hash in a record."""


def describe_code(parts: Iterable[object], libraries: Iterable[str] = ()) -> str | None:
    """What identifies the foreign code of `parts`: 'source 1f3a…, timm 1.0.20'; None where all of it is sharpbench's.

    The source hash covers the files of the classes and of the modules that they use from the same folder or package.

    Args:
        parts: objects such as models and optimizers; their fields count too.
        libraries: distributions whose version counts in any case.
    """
    modules = {module for part in parts for cls in _foreign_classes(part) for module in local_modules(cls.__module__)}
    used = {name for module in modules for name in VERSIONED_LIBRARIES if _uses_library(module, name)}
    words = [f"source {hash_sources(modules)[:HASH_DIGITS]}"] if modules else []
    words += [f"{name} {_find_version(name)}" for name in sorted({*libraries, *used})]
    return ", ".join(words) or None


def hash_sources(modules: Iterable[ModuleType]) -> str:
    """The SHA-256 of the source files of modules; where they lie does not matter, only their content."""
    digests = sorted(hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest() for module in modules)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def local_modules(name: str) -> set[ModuleType]:
    """The module `name` and the modules of its folder, or package, that it uses directly or through each other.

    The set is empty for a module without a source file, as in an interactive session.
    """
    module = sys.modules.get(name)
    if module is None or _source_file(module) is None:
        return set()
    folder = _find_folder(module)
    found, waiting = {module}, [module]
    while waiting:
        for used in _used_modules(waiting.pop()):
            if used not in found and _lies_below(used, folder):
                found.add(used)
                waiting.append(used)
    return found


def _foreign_classes(part: object) -> Iterator[type]:
    """The classes that `part` and the values of its fields inherit from, without ours and those of Python and torch."""
    for cls in type(part).__mro__:
        package = cls.__module__.partition(".")[0]
        if package not in (*OWN_PACKAGES, "torch", *VERSIONED_LIBRARIES) and package not in sys.stdlib_module_names:
            yield cls
    if is_dataclass(part):
        for item in fields(part):
            value = getattr(part, item.name)
            if is_dataclass(value):
                yield from _foreign_classes(value)


def _source_file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file) if file and file.endswith(".py") and Path(file).is_file() else None


def _find_folder(module: ModuleType) -> Path:
    """The folder of the module's top-level package, or of its file."""
    top = sys.modules.get(module.__name__.partition(".")[0])
    file = getattr(top, "__file__", None) if top is not None and hasattr(top, "__path__") else None
    return Path(file or str(module.__file__)).resolve().parent


def _used_modules(module: ModuleType) -> Iterator[ModuleType]:
    """The modules that the global names of `module` are, or come from."""
    for value in list(vars(module).values()):
        used = value if isinstance(value, ModuleType) else sys.modules.get(str(getattr(value, "__module__", None)))
        if used is not None:
            yield used


def _lies_below(module: ModuleType, folder: Path) -> bool:
    file = _source_file(module)
    if file is None or module.__name__.partition(".")[0] in OWN_PACKAGES:
        return False
    path = file.resolve()
    return path.is_relative_to(folder) and "site-packages" not in path.relative_to(folder).parts


def _uses_library(module: ModuleType, name: str) -> bool:
    return any(used.__name__.partition(".")[0] == name for used in _used_modules(module))


def _find_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
