"""Networks of a table that were trained elsewhere: the file of each row, and the table with a column per measure."""

from __future__ import annotations

import csv
import glob
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sharpbench.analysis.table import Table, read_table
from sharpbench.core.record import Record
from sharpbench.errors import InvalidInput, shorten
from sharpbench.training.weight_files import split_state

WEIGHTS_COLUMN = "weights"
PRETRAINED = "pretrained"
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
"""'{column}' in a pattern: the value of a column."""
MAX_NAMED_FILES = 3
"""Files that a message names."""


@dataclass(frozen=True, slots=True, eq=False)
class NetworkTable:
    """One row per network.

    Args:
        sources: The file of the weights of each row, to which '#KEY' may add a state in it.
    """

    table: Table
    sources: tuple[str, ...]

    def to_csv(self, states: Mapping[str, Mapping[str, Record]], labels: Sequence[str]) -> str:
        """The table as CSV with one more column per measure; a cell is empty where the measure has no value.

        states: Source of the weights -> label of the measure -> record.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*self.table.columns, *labels])
        for source, row in zip(self.sources, zip(*self.table.columns.values(), strict=True), strict=True):
            records = states.get(source, {})
            values = [records[label].value if label in records else None for label in labels]
            writer.writerow(["" if cell is None else cell for cell in (*row, *values)])
        return text.getvalue()


def read_network_table(path: Path, column: str, labels: Sequence[str]) -> NetworkTable:
    """The table in a file of CSV, JSON lines or Parquet, with the files that its column names, from the table's folder.

    Raises InvalidInput for a table that cannot be read, as `find_sources`, and for a column that has the name of a
    measure.
    """
    table = read_table(path)
    for label in labels:
        if label in table.columns:
            raise InvalidInput(f"{path} has a column '{shorten(label)}' already; remove it, or leave the measure out")
    return NetworkTable(table, find_sources(table, f"{{{column}}}", path.parent))


def find_sources(table: Table, pattern: str, folder: Path) -> tuple[str, ...]:
    """The file of the weights of each row, as a path below `folder`, or 'pretrained'.

    Args:
        pattern: Names the file of a row, as in 'runs/{run}/best*.pt#model': values of columns are in braces, asterisks
            are those of a shell, and '#KEY' names a state in the file.

    Raises InvalidInput for a missing column, a row without a value, without a file or with several, and for
    the file of another row.
    """
    found: list[str] = []
    first: dict[str, str] = {}
    for row, place in enumerate(table.places):
        named = fill_pattern(table, pattern, row, remedy="name the file of the weights")
        source = PRETRAINED if named == PRETRAINED else _find_file(table, pattern, row, folder, named)
        if source in first and source != PRETRAINED:
            raise InvalidInput(f"{place}: '{shorten(named)}' is the file of {first[source]} also; remove a row")
        first[source] = place
        found.append(source)
    return tuple(found)


def fill_pattern(table: Table, pattern: str, row: int, *, remedy: str, quoted: bool = False) -> str:
    """`pattern` with the values of a row for the columns in braces.

    Args:
        remedy: What a user does about a missing value, for the message.
        quoted: Escape what a shell would expand in the values.

    Raises InvalidInput for a missing column, and for a missing value.
    """

    def fill(name: re.Match[str]) -> str:
        value = table.column(name[1])[row]
        if value is None:
            raise InvalidInput(f"{table.places[row]}: no value in column '{shorten(name[1])}'; {remedy}")
        return glob.escape(str(value)) if quoted else str(value)

    return PLACEHOLDER.sub(fill, pattern)


def _find_file(table: Table, pattern: str, row: int, folder: Path, named: str) -> str:
    """The one file that the pattern names for a row."""
    source = str(folder / Path(named).expanduser())
    path, state = split_state(source)
    if Path(path).is_file():
        return source
    place = table.places[row]
    if not glob.has_magic(PLACEHOLDER.sub("", pattern)):
        raise InvalidInput(f"{place}: there is no file '{source}'; files are sought from the folder of the table")
    shape = fill_pattern(table, pattern, row, remedy="", quoted=True)
    shape = shape if state is None else shape.removesuffix(f"#{state}")
    names = glob.glob(str(Path(glob.escape(str(folder))) / Path(shape).expanduser()))
    files = sorted(name for name in names if Path(name).is_file())
    if len(files) != 1:
        shown = ", ".join(Path(name).name for name in files[:MAX_NAMED_FILES])
        fault = f"names {len(files)} files ({shorten(shown)})" if files else "matches no file"
        raise InvalidInput(f"{place}: the pattern '{shorten(named)}' {fault}; let it name one file for each network")
    return files[0] if state is None else f"{files[0]}#{state}"
