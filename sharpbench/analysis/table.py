"""Tables of networks that were trained elsewhere: one row per network, from a file or a DataFrame, checked."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sharpbench.core.fields import Scalar, is_finite
from sharpbench.core.jsonl import parse_json
from sharpbench.errors import InvalidInput, shorten, suggest_names, truncate

if TYPE_CHECKING:
    import pandas as pd

MAX_TABLE_BYTES = 2**28
"""Bytes of a file that is read: text takes about ten times as much memory as columns of numbers."""
MAX_NETWORKS = 20_000
"""Rows of a table: time and memory grow with the square of their number."""
MAX_NAMED_CHARS = 200
"""Characters of the names of columns that a message lists."""
SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Columns of equal length, one value per network. None is a missing value.

    Args:
        name: How messages call the table: the path of a file, or 'the table'.
        columns: Name -> values; numbers of a CSV file are still text.
        places: How messages call each row, as 'mine.csv:7' or 'row 5'.
    """

    name: str
    columns: Mapping[str, Sequence[Scalar]]
    places: Sequence[str]

    @property
    def rows(self) -> int:
        """The number of networks."""
        return len(self.places)

    def column(self, name: str) -> Sequence[Scalar]:
        """The values of a column. Raises InvalidInput, with near names, where there is none of that name."""
        if name not in self.columns:
            hint = suggest_names(name, self.columns) or f"it has {truncate(', '.join(self.columns), MAX_NAMED_CHARS)}"
            raise InvalidInput(f"{self.name} has no column '{shorten(name)}'; {hint}")
        return self.columns[name]

    def numbers(self, name: str) -> list[float | None]:
        """The values of a column as finite numbers. Raises InvalidInput for any other value, with its row."""
        found = []
        for place, value in zip(self.places, self.column(name), strict=True):
            number = parse_number(value)
            if number is None and value is not None:
                raise InvalidInput(
                    f"{place}: '{shorten(str(value))}' in column '{shorten(name)}' is not a finite number; "
                    "correct it, or leave the cell empty where a measure has no value"
                )
            found.append(number)
        return found

    def booleans(self, name: str) -> list[bool]:
        """The values of a column of true and false, or of 1 and 0. Raises InvalidInput for any other value."""
        words = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
        texts = [str(value).lower() for value in self.column(name)]
        for place, text in zip(self.places, texts, strict=True):
            if text not in words:
                raise InvalidInput(f"{place}: '{shorten(text)}' in column '{shorten(name)}' is neither true nor false")
        return [words[text] for text in texts]

    def settings(self, name: str) -> list[Scalar]:
        """The values of a hyperparameter: as numbers where all are, else as text. A missing value is one more value."""
        values = self.column(name)
        numbers = [parse_number(value) for value in values]
        if all(number is not None or value is None for number, value in zip(numbers, values, strict=True)):
            return [_exact_number(value, number) for number, value in zip(numbers, values, strict=True)]
        return [value if value is None or isinstance(value, bool) else str(value) for value in values]

    def seeds(self, name: str) -> list[Scalar]:
        """The values of the column of seeds, none of which may be missing."""
        found = self.settings(name)
        self._refuse_missing(name, [value is None for value in found])
        return found

    def is_text(self, name: str) -> bool:
        """Whether no value of a column is a number, finite or not; such a column is not a measure."""
        return not any(_is_number(value) for value in self.columns[name])

    def _refuse_missing(self, name: str, missing: Sequence[bool]) -> None:
        if True in missing:
            place = self.places[missing.index(True)]
            raise InvalidInput(f"{place}: no value in column '{shorten(name)}'; give one, or remove the row")


def parse_number(value: Scalar) -> float | None:
    """`value`, or the number that a text is, as a float; None where it is not a finite number."""
    if isinstance(value, str):
        value = _parse_text(value)
    if value is None or isinstance(value, bool | str) or not is_finite(value):
        return None
    return float(value)


def _parse_text(text: str) -> float | None:
    """The float that a text is, with NaN and infinities; None for other text."""
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def _exact_number(value: Scalar, number: float | None) -> Scalar:
    """`number`, which is `value` as a float; or the integer that `value` is, where no float equals it."""
    whole = int(value) if isinstance(value, str) and value.lstrip("+-").isdecimal() else value
    return whole if isinstance(whole, int) and whole != number else number


def _is_number(value: Scalar) -> bool:
    if isinstance(value, str):
        return _parse_text(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_table(path: Path) -> Table:
    """The table in a file: CSV with a header, JSON lines, or Parquet where pandas can read it.

    Raises:
        InvalidInput: for a file that cannot be read, is empty or too large, for a column that is named twice or not at
            all, and for a row of another length; the message has the line.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidInput(f"'{path}' ends in none of {', '.join(SUFFIXES)}; convert the table to CSV")
    try:
        size = path.stat().st_size
        if size > MAX_TABLE_BYTES:
            raise InvalidInput(
                f"{path} has {size:,} bytes, a table at most {MAX_TABLE_BYTES:,}; keep only the columns that are scored"
            )
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read '{path}': {error.strerror}; name a table of networks") from None
    if not content.strip():
        raise InvalidInput(f"{path} is empty; give one row per network below a header")
    if suffix == ".parquet":
        return _read_parquet(path, content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{path}:{line}: not UTF-8 ({error.reason}); save the table as UTF-8") from None
    lines = _csv_rows(path, text) if suffix == ".csv" else _json_rows(path, text)
    return _with_rows(str(path), list(lines))


def read_frame(frame: pd.DataFrame, name: str = "the table") -> Table:
    """A DataFrame as a table; its missing values are missing.

    Raises:
        InvalidInput: for a column that is named twice, and for too many rows or none.
    """
    names = [str(column) for column in frame.columns]
    _check_header(name, names)
    _check_size(name, len(frame))
    columns = {each: _plain_values(frame.iloc[:, place].tolist()) for place, each in enumerate(names)}
    places = frame.index if frame.index.is_unique else range(len(frame))  # as of frames that were put together
    return Table(name, columns, [f"row {place}" for place in places])


def _plain_values(values: Iterable[object]) -> list[Scalar]:
    """Scalars of Python; NaN and the missing values of pandas are None, other objects are text."""
    import pandas as pd

    plain = (value.item() if hasattr(value, "item") else value for value in values)
    return [
        None
        if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))
        else value
        if isinstance(value, str | bool | int | float)
        else str(value)
        for value in plain
    ]


Rows = Sequence[tuple[int, Mapping[str, Scalar]]]


def _with_rows(name: str, rows: Rows) -> Table:
    """The table of rows with their lines; a row without a column has no value there."""
    _check_size(name, len(rows))
    names = list(dict.fromkeys(column for _, row in rows for column in row))
    columns = {column: [row.get(column) for _, row in rows] for column in names}
    return Table(name, columns, [f"{name}:{line}" for line, _ in rows])


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Scalar]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if not any(row):
                continue
            if header is None:
                header = row
                _check_header(str(path), header[not header[0] :])  # the index that pandas writes has no name
            elif len(row) != len(header):
                raise InvalidInput(
                    f"{path}:{reader.line_num}: {len(row)} cells in a row, {len(header)} in the header; correct the row"
                )
            else:
                named = zip(header, row, strict=True)
                yield reader.line_num, {name: value or None for name, value in named if name}
    except csv.Error as error:
        raise InvalidInput(f"{path}:{reader.line_num}: not CSV ({error}); correct the line") from None


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Scalar]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError as error:
            raise InvalidInput(f"{path}:{number}: not an object of JSON ({error}); correct the line") from None
        if not isinstance(row, dict):
            raise InvalidInput(f"{path}:{number}: not an object of JSON but {type(row).__name__}; correct the line")
        for name, value in row.items():
            if isinstance(value, dict | list):
                raise InvalidInput(f"{path}:{number}: '{shorten(name)}' is nested; give one value per column")
        yield number, row


def _read_parquet(path: Path, content: bytes) -> Table:
    import pandas as pd

    try:
        return read_frame(pd.read_parquet(io.BytesIO(content)), str(path))
    except ImportError:
        raise InvalidInput(f"reading '{path}' needs pyarrow; install it, or convert the table to CSV") from None
    except (ValueError, OSError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"'{path}' is not a Parquet file ({shorten(str(error))}); convert the table to CSV"
        ) from None


def _check_header(name: str, header: Sequence[str]) -> None:
    for place, column in enumerate(header):
        if not column:
            raise InvalidInput(f"{name}: column {place + 1} has no name; name it or remove it")
        if header.index(column) < place:
            raise InvalidInput(f"{name}: the column '{shorten(column)}' is there twice; rename or remove one")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise InvalidInput(f"{name}: one column '{shorten(header[0])}'; separate columns by commas")


def _check_size(name: str, rows: int) -> None:
    if not rows:
        raise InvalidInput(f"{name} has no rows; give one row per network below a header")
    if rows > MAX_NETWORKS:
        raise InvalidInput(f"{name} has {rows:,} rows, at most {MAX_NETWORKS:,} can be scored; score a part of them")
