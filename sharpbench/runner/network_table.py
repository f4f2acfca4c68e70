"""A table of networks that were trained elsewhere, whose weights are measured: a column for each measure is added."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sharpbench.analysis.table import Table, read_table
from sharpbench.core.record import Record
from sharpbench.errors import InvalidInput, shorten
from sharpbench.training.weight_files import split_state

WEIGHTS_COLUMN = "weights"


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

    Raises InvalidInput for a table that cannot be read, a row without a file or with the file of another row, and a
    column that has the name of a measure.
    """
    table = read_table(path)
    for label in labels:
        if label in table.columns:
            raise InvalidInput(f"{path} has a column '{shorten(label)}' already; remove it, or leave the measure out")
    sources: dict[str, str] = {}
    for place, value in zip(table.places, table.column(column), strict=True):
        if value is None:
            raise InvalidInput(f"{place}: no value in column '{shorten(column)}'; name the file of the weights")
        source = str(path.parent / str(value))
        if not Path(split_state(source)[0]).is_file():
            raise InvalidInput(f"{place}: there is no file '{source}'; files are sought from the folder of the table")
        if source in sources:
            raise InvalidInput(f"{place}: '{shorten(str(value))}' is the file of {sources[source]} also; remove a row")
        sources[source] = place
    return NetworkTable(table, tuple(sources))
