"""The rows of a tracker: their columns, and reading them back from a file."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from sharpbench.core.fields import Scalar, is_scalar
from sharpbench.core.jsonl import parse_json, read_lines, unreadable_file
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import check_plain_file
from sharpbench.tracking.sinks import TEXT, Row

COLUMNS_BEFORE = ("step", "learning_rate", "2/eta", "bound", "loss")
COLUMNS_AFTER = ("seconds", "share", "skipped", "notes")
"""The columns of the measures are between these."""
NOTE_GAP = " | "
"""What separates the notes of a row; notes have semicolons inside."""


def row_columns(measures: Sequence[str]) -> list[str]:
    """All columns of a tracker of these measures, in their order."""
    return [*COLUMNS_BEFORE, *measures, *COLUMNS_AFTER]


def measure_columns(rows: Sequence[Row]) -> list[str]:
    """The columns of measures, in the order of the first row that has each."""
    return list(dict.fromkeys(name for row in rows for name in row if name not in (*COLUMNS_BEFORE, *COLUMNS_AFTER)))


def read_rows(path: Path) -> list[Row]:
    """The rows in a file that a tracker wrote, .jsonl or .csv, by step; a step that was written again counts last.

    Raises InvalidInput for a file that cannot be read, and for one of another form, with its line.
    """
    check_plain_file(path)
    if not path.is_file():
        raise InvalidInput(f"'{shorten(str(path))}' is not a file; name a .jsonl or .csv file of a tracker")
    try:
        found = list(_csv_rows(path) if path.suffix == ".csv" else _json_rows(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable_file(path, error) from None
    if not found:
        raise InvalidInput(f"'{shorten(str(path))}' holds no row; a tracker writes one for each measurement")
    by_step: dict[int, Row] = {}
    for number, row in found:
        step = row.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or not set(COLUMNS_BEFORE) <= set(row):
            raise InvalidInput(f"{path}:{number} is not a tracker's row; it lacks one of {', '.join(COLUMNS_BEFORE)}")
        for name in (*COLUMNS_BEFORE, *measure_columns([row])):
            if not (row[name] is None or (isinstance(row[name], int | float) and not isinstance(row[name], bool))):
                raise InvalidInput(f"{path}:{number}: {shorten(name)} is {shorten(repr(row[name]))}, not a number")
        by_step[step] = row
    return [by_step[step] for step in sorted(by_step)]


def _json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in read_lines(path):
        try:
            row = parse_json(line.decode())
        except ValueError:
            raise InvalidInput(f"{path}:{number} is not a line of JSON; remove it") from None
        if not isinstance(row, dict) or not all(map(is_scalar, row.values())):
            raise InvalidInput(f"{path}:{number} is not an object of numbers and texts; remove it")
        yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in (reader := csv.DictReader(file)):
            texts = {name: text for name, text in row.items() if name is not None and text is not None}
            yield reader.line_num, {name: _scalar(name, text) for name, text in texts.items()}


def _scalar(name: str, text: str) -> Scalar:
    """A number where the text is a finite one; an empty cell is None."""
    if name in TEXT:
        return text
    for kind in (int, float):
        try:
            value: Scalar = kind(text)
        except ValueError:
            continue
        return value if is_scalar(value) else text
    return text or None
