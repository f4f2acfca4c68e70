"""The installed plugins as rows, stored so that an unchanged installation is listed without importing it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import json
import typing
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from sharpbench.core.fields import Scalar, is_scalar
from sharpbench.core.installed_plugins import Kind, installed_plugins
from sharpbench.core.registry import available
from sharpbench.core.spec import find_named, format_value, parse_spec
from sharpbench.errors import one_line
from sharpbench.files import atomic_write, cache_folder
from sharpbench.version import __version__

Row = dict[str, Any]


def list_installed(kind: Kind, *, plugins: Sequence[Path] = (), cache_dir: Path | str | None = None) -> list[Row]:
    """One row per name of `kind`, in order, and one per plugin that could not be used.

    Importing all plugins takes seconds, so the rows are stored under the hash of the installed versions and of the
    times and sizes of their files. With `plugins` (--plugin files) nothing is stored.
    """
    if plugins:
        return _make_rows(kind, plugins)
    path = cache_folder(cache_dir) / "listing" / f"{kind}-{_fingerprint(kind)}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(kept, list) and all(isinstance(row, dict) for row in kept):
            return kept
    except (OSError, ValueError, RecursionError):
        pass  # not stored yet, or damaged: made again below
    rows = _make_rows(kind, ())
    if not any("fault" in row for row in rows):  # the cause may lie outside of the hashed files
        _store_rows(path, rows)
    return rows


def list_measures() -> list[str]:
    """The names of the installed measures, in the order of `sharpbench list measures`.

    >>> sharpbench.list_measures()[:3]
    ['trace', 'ggn-trace', 'fisher-rao']
    """
    return [row["name"] for row in list_installed("measures") if row["name"] is not None]


def describe_measure(word: str, *, plugins: Sequence[Path] = (), cache_dir: Path | str | None = None) -> Row:
    """The row of the measure that `word` names: its name, or name[field=value,...].

    With values, the class is imported for what it then claims, and each parameter's row has its `value`. Without, the
    row that `list_installed` has stored is enough.
    """
    if "[" not in word:
        rows = {
            row["name"]: row for row in list_installed("measures", plugins=plugins, cache_dir=cache_dir) if row["name"]
        }
        return find_named(word.strip(), rows, kind="measure")
    offered = available("measures", plugins)
    chosen = parse_spec(word, offered.classes, kind="measure")
    row = _make_row("measures", type(chosen), offered.packages[chosen.name])
    parameters = [{**each, "value": getattr(chosen, each["name"])} for each in row["parameters"]]
    return {**row, "parameters": parameters, **_claims_of(chosen)}


def _make_rows(kind: Kind, plugins: Sequence[Path]) -> list[Row]:
    offered = available(kind, plugins)
    rows = [_row_or_fault(kind, cls, offered.packages[name]) for name, cls in offered.classes.items()]
    faults = [
        {"kind": kind[:-1], "name": None, "package": fault.package, "fault": fault.cause} for fault in offered.faults
    ]
    return rows + faults


def _row_or_fault(kind: Kind, cls: type[Any], package: str) -> Row:
    """The row of a class, or a row with the fault for one that cannot be described."""
    try:
        return _make_row(kind, cls, package)
    except Exception as error:  # whatever a plugin's class raises
        cause = one_line(f"{cls.name}: {type(error).__name__}: {error}")
        return {"kind": kind[:-1], "name": None, "package": package, "fault": cause}


def _make_row(kind: Kind, cls: type[Any], package: str) -> Row:
    """The row of a class; its invariances are those of the default parameters."""
    row: Row = {
        "kind": kind[:-1],
        "name": cls.name,
        "title": cls.title,
        "source": cls.source,
        "package": package,
        "parameters": list(_parameter_rows(cls)),
    }
    if kind == "measures":
        row |= _claims_of(cls())
    return row


def _claims_of(chosen: Any) -> Row:
    """What a measure states about itself in addition to its title."""
    cls = type(chosen)
    return {
        "invariances": sorted(chosen.invariances()),
        "depends": sorted(cls.depends),
        "version": cls.version,
        **{name: str(getattr(cls, name)) for name in ("family", "definition", "reduction", "included", "cost")},
        "oracle": " ".join((cls.exact.__doc__ or "").split()),
        "oracle_limit": cls.oracle_limit,
        "docstring": _docstring(cls),
        "bibtex": str(cls.bibtex.strip()),
    }


def _docstring(cls: type[Any]) -> str:
    """The docstring as written; without one, a dataclass has its signature in its place, which is omitted."""
    text = inspect.cleandoc(cls.__doc__ or "")
    return "" if text.startswith(f"{cls.__name__}(") else text


def _parameter_rows(cls: type[Any]) -> Iterator[Row]:
    hints = typing.get_type_hints(cls)
    for item in fields(cls):
        options = typing.get_args(hints[item.name])
        literal = typing.get_origin(hints[item.name]) is typing.Literal
        yield {
            "name": item.name,
            "default": None if item.default is MISSING else _to_scalar(item.default),
            "type": "|".join(map(str, options)) if literal else str(getattr(item.type, "__name__", item.type)),
        }


def _to_scalar(default: Any) -> Scalar:
    """A default as JSON holds it: objects and tuples as users type them."""
    return default if is_scalar(default) else format_value(default)


def _fingerprint(kind: Kind) -> str:
    installed = installed_plugins()
    digest = hashlib.sha256(f"{__version__} {sorted(installed.damaged)}".encode())
    for point in installed.points[kind]:
        digest.update(f"{point.package} {point.version} {point.value}\n".encode())
        for path in _source_files(point.value):
            if not path.exists():  # a link to nowhere
                continue
            state = path.stat()
            digest.update(f"{path} {state.st_mtime_ns} {state.st_size}\n".encode())
    return digest.hexdigest()[:32]


def _source_files(module: str) -> list[Path]:
    """The source files of the top-level package of `module`, found without importing it."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return []
    if spec is None or spec.origin is None:
        return []
    origin = Path(spec.origin)
    return sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]


def _store_rows(path: Path, rows: list[Row]) -> None:
    """Store the rows; where the folder cannot be written, they are made again next time."""
    with contextlib.suppress(OSError):
        atomic_write(path, json.dumps(rows))
