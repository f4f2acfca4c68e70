"""Where rows go: files of JSON lines and CSV, and TensorBoard and Weights & Biases by their methods."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from sharpbench.core.fields import Scalar
from sharpbench.core.jsonl import format_json
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import user_path

Row: TypeAlias = dict[str, Scalar]
"""One measurement: column -> value. The columns of a tracker are the same in each of its rows."""
TEXT = ("notes",)
"""Columns of text."""


class Sink(Protocol):
    """What a tracker gives its rows to."""

    def write(self, row: Row) -> None:
        """Take one row."""


@dataclass(frozen=True, slots=True)
class JsonLinesSink:
    """Appends each row to a file, as one line of JSON."""

    path: Path

    def write(self, row: Row) -> None:
        """See Sink."""
        _append(self.path, format_json(row) + "\n")


@dataclass(frozen=True, slots=True)
class CsvSink:
    """Appends each row to a CSV file, below a heading that is written once."""

    path: Path

    def write(self, row: Row) -> None:
        """See Sink. Raises InvalidInput where the file has other columns."""
        heading = _csv_line(list(row))
        if self.path.exists() and self.path.stat().st_size:
            with self.path.open(encoding="utf-8", newline="") as file:
                if file.readline() != heading:
                    raise InvalidInput(f"{self.path} has other columns than this tracker; name another file")
            heading = ""
        _append(self.path, heading + _csv_line(["" if value is None else value for value in row.values()]))


@dataclass(frozen=True, slots=True)
class ScalarSink:
    """Gives numbers to an object with add_scalar(tag, value, step), such as TensorBoard's SummaryWriter."""

    writer: Any

    def write(self, row: Row) -> None:
        """See Sink."""
        for name, value in _numbers(row).items():
            self.writer.add_scalar(f"sharpness/{name}", value, row["step"])


@dataclass(frozen=True, slots=True)
class LogSink:
    """Gives numbers to an object with log(dictionary), such as a run of Weights & Biases.

    No step is passed, because such a run counts its own; the dictionary has it as 'sharpness/step'.
    """

    run: Any

    def write(self, row: Row) -> None:
        """See Sink."""
        self.run.log({f"sharpness/{name}": value for name, value in {"step": row["step"], **_numbers(row)}.items()})


def make_sinks(given: object) -> list[Sink]:
    """The sinks that a user names: paths of .jsonl and .csv files, objects with `add_scalar` or `log`; one or several.

    Raises InvalidInput for anything else.
    """
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    return [_make_sink(each) for each in several]


def _make_sink(given: Any) -> Sink:
    if isinstance(given, str | os.PathLike):
        path = user_path(os.fspath(given))
        if path.suffix == ".jsonl":
            return JsonLinesSink(path)
        if path.suffix == ".csv":
            return CsvSink(path)
        raise InvalidInput(f"sinks= names '{shorten(str(path))}'; end the file's name in .jsonl or .csv")
    if callable(getattr(given, "add_scalar", None)):
        return ScalarSink(given)
    if callable(getattr(given, "log", None)):
        return LogSink(given)
    raise InvalidInput(
        f"sinks= holds a {type(given).__name__}; give a file's name (.jsonl, .csv) or an object with add_scalar or log"
    )


def describe_sink(sink: Sink) -> str:
    """The sink's file, or the type of its object."""
    path = getattr(sink, "path", None)
    held = getattr(sink, "writer", getattr(sink, "run", sink))
    return str(path) if path is not None else type(held).__name__


def _numbers(row: Mapping[str, Scalar]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in row.items()
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text)


def _csv_line(values: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()
