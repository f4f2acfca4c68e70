"""Installed measures, models, data sets, optimisers and cohorts by name, through entry points.

An entry point of the group `sharpbench.<kind>` names a module with MEASURES, MODELS, DATASETS, OPTIMIZERS or
COHORTS, a tuple of classes. A name that two packages offer is an error that names both. A fault in an installed plugin
is listed with its cause and does not affect the others; a file that the user names (--plugin) is refused instead.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sharpbench.core.installed_plugins import KINDS, Kind, describe_fault, installed_plugins
from sharpbench.core.source_files import execute_module, new_module
from sharpbench.errors import InvalidInput, shorten, suggest_names

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]*")
PUBLIC_CLASSES: dict[Kind, str] = {
    "measures": "sharpbench.Measure",
    "models": "sharpbench.Model",
    "datasets": "sharpbench.Dataset",
    "optimizers": "sharpbench.Optimizer",
    "cohorts": "sharpbench.Cohort",
}
"""The public class that a plugin of each kind inherits from; by name, since importing most of them imports torch."""
_usable: dict[Kind, weakref.WeakSet[type[Any]]] = {kind: weakref.WeakSet() for kind in KINDS}
"""Classes that were checked before: every call of `measure` with a name asks for all of them."""


@dataclass(frozen=True, slots=True)
class PluginFault:
    """A plugin that could not be used: where it comes from and why."""

    kind: Kind
    package: str
    cause: str


@dataclass(frozen=True, slots=True)
class Available:
    """What is installed of one kind: classes by name, the package of each, and the faults."""

    kind: Kind
    classes: dict[str, type[Any]]
    packages: dict[str, str]
    faults: tuple[PluginFault, ...]


_Offers = tuple[tuple[str, object], ...]
_latest: dict[Kind, tuple[_Offers, Available]] = {}
"""What the installed packages offered at the latest call, and the result, while these are the same tuples."""


def available(kind: Kind, plugins: Sequence[Path] = ()) -> Available:
    """All installed plugins of `kind`, and those of the files `plugins` (--plugin)."""
    classes: dict[str, type[Any]] = {}
    packages: dict[str, str] = {}
    faults: list[PluginFault] = []
    modules = list(_load_modules(kind, plugins, faults))
    offers = tuple((package, getattr(module, kind.upper(), ())) for package, module in modules)
    if kind in _latest and not faults and _same_offers(offers, _latest[kind][0]):
        found = _latest[kind][1]
        return Available(kind, dict(found.classes), dict(found.packages), ())
    for package, module in modules:
        sound, causes = _usable_classes(kind, module)
        faults.extend(PluginFault(kind, package, cause) for cause in causes)
        for cls in sound:
            if cls.name in classes:
                raise InvalidInput(
                    f"{kind[:-1]} '{cls.name}' is offered by both '{packages[cls.name]}' and '{package}'; "
                    "uninstall one of them"
                )
            classes[cls.name], packages[cls.name] = cls, package
    if not faults and all(isinstance(offer, tuple) for _, offer in offers):  # a list may change
        _latest[kind] = offers, Available(kind, dict(classes), dict(packages), ())
    return Available(kind, classes, packages, tuple(faults))


def _same_offers(some: _Offers, others: _Offers) -> bool:
    """Whether the same packages offer the same objects."""
    return len(some) == len(others) and all(
        one[0] == other[0] and one[1] is other[1] for one, other in zip(some, others, strict=True)
    )


def find_measures(target: str) -> dict[str, type[Any]]:
    """The measures by name that `target` offers: a Python file, which is executed, a distribution, or a module.

    Raises InvalidInput where there is no such target, where it offers no measure, or one that cannot be used.
    """
    if target.endswith(".py") or _is_file(Path(target)):
        modules = [_load_file(Path(target), target)]
    else:
        modules = _find_modules(target)
    found: dict[str, type[Any]] = {}
    for module in modules:
        sound, causes = _usable_classes("measures", module)
        if causes or not sound:
            cause = causes[0] if causes else "offers no measure; add MEASURES = (YourMeasure,)"
            raise InvalidInput(f"{target}: {cause}")
        found |= {cls.name: cls for cls in sound}
    return found


def _find_modules(target: str) -> list[ModuleType]:
    """The modules of the distribution `target`, by its entry points for measures, or the one of that name."""
    points = installed_plugins().points["measures"]
    known = list(dict.fromkeys(point.package for point in points))
    own = [point.value for point in points if point.package == target]
    return [_import_module(name, target, known) for name in own or [target]]


def _import_module(name: str, target: str, known: Sequence[str]) -> ModuleType:
    """The module `name`; errors name `target`."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a plugin raises at import
        if isinstance(error, ModuleNotFoundError) and error.name is not None and name.startswith(error.name):
            hint = suggest_names(target, known) or "name a Python file, or install the package"
            raise InvalidInput(f"no package '{shorten(target)}' that offers measures; {hint}") from None
        raise InvalidInput(f"{shorten(target)} fails to import: {describe_fault(error)}") from error


def _load_modules(kind: Kind, plugins: Sequence[Path], faults: list[PluginFault]) -> Iterator[tuple[str, ModuleType]]:
    installed = installed_plugins()
    faults.extend(PluginFault(kind, package, cause) for package, cause in installed.damaged.items())
    for point in installed.points[kind]:
        try:
            module = point.load()
        except (Exception, SystemExit) as error:  # a plugin may raise anything; others must not suffer
            faults.append(PluginFault(kind, point.package, describe_fault(error)))
            continue
        if not hasattr(module, kind.upper()):
            faults.append(PluginFault(kind, point.package, f"module {point.value} has no {kind.upper()}"))
            continue
        yield point.package, module
    for path in {path.resolve(): path for path in plugins}.values():  # a file that is named twice is one plugin
        yield str(path), _load_file(path, f"--plugin {path}")


def _is_file(path: Path) -> bool:
    """Whether the path is a file; a name that the system refuses, such as one too long, is not."""
    try:
        return path.is_file()
    except OSError:
        return False


def _load_file(path: Path, word: str) -> ModuleType:
    """The module of a file, which is executed; errors call it `word`."""
    if not _is_file(path):
        raise InvalidInput(f"{word} is not a file; name a Python file with {', '.join(kind.upper() for kind in KINDS)}")
    name = f"sharpbench_plugin_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    if name in sys.modules:  # one module for all kinds, so that its classes stay the same objects
        return sys.modules[name]
    module = new_module(path, name, word)
    try:
        _execute(module, word)
    except BaseException:  # interrupts included: only a checked module stays
        del sys.modules[name]
        raise
    return module


def _execute(module: ModuleType, word: str) -> None:
    """Execute the file of `module`. The user named it, so an error in it is invalid input and not a fault."""
    try:
        execute_module(module)
    except (Exception, SystemExit) as error:  # as above
        raise InvalidInput(f"{word} fails to import: {describe_fault(error)}") from error
    kinds = [kind for kind in KINDS if hasattr(module, kind.upper())]
    if not kinds:
        raise InvalidInput(
            f"{word} has none of {', '.join(kind.upper() for kind in KINDS)}; add MEASURES = (YourMeasure,)"
        )
    for kind in kinds:
        _, causes = _usable_classes(kind, module)
        if causes:
            raise InvalidInput(f"{word}: {causes[0]}")


def _usable_classes(kind: Kind, module: ModuleType) -> tuple[list[type[Any]], list[str]]:
    """The usable classes of `kind` that `module` offers, and what is wrong with the others."""
    offer = getattr(module, kind.upper(), ())
    if not isinstance(offer, tuple | list):
        shown = _show(offer)
        return [], [f"{kind.upper()} is {shown}, not a tuple of classes; write {kind.upper()} = (YourClass,)"]
    judged = [(cls, plugin_error(kind, cls)) for cls in offer]
    return [cls for cls, fault in judged if fault is None], [fault for _, fault in judged if fault is not None]


def _show(given: object) -> str:
    return given.__name__ if isinstance(given, type) else shorten(repr(given))


def _inherits_from(cls: type[Any], public_name: str) -> bool:
    """Whether a base of `cls` is the class `sharpbench.<Name>`, found by name: no two classes of ours share one."""
    package, _, name = public_name.rpartition(".")
    return any(base.__module__.startswith(f"{package}.") and base.__qualname__ == name for base in cls.__mro__)


def plugin_error(kind: Kind, cls: Any) -> str | None:
    """Why `cls` cannot be offered, or None. A class without a fault is checked once."""
    shown = _show(cls)
    if isinstance(cls, type) and cls in _usable[kind]:
        return None
    if not isinstance(cls, type) or not is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return f"{shown} is not a frozen dataclass"
    if not _inherits_from(cls, PUBLIC_CLASSES[kind]):
        article = "an" if kind == "optimizers" else "a"
        return f"{shown} is not {article} {kind[:-1]}; inherit from {PUBLIC_CLASSES[kind]}"
    if getattr(cls, "__abstractmethods__", None):
        return f"{shown} does not define {', '.join(sorted(cls.__abstractmethods__))}"
    missing = [
        attribute for attribute in ("name", "title", "source") if not isinstance(getattr(cls, attribute, None), str)
    ]
    if missing:
        return f"{shown} has no {', '.join(missing)}"
    if not NAME_PATTERN.fullmatch(cls.name):  # type: ignore[attr-defined]
        return f"{shown} is named {cls.name!r:.80}; names are lower-case letters, digits and hyphens"  # type: ignore[attr-defined]
    _usable[kind].add(cls)
    return None
