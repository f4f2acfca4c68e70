"""Tables that fit a terminal: what is wider is printed as several tables, and no number is folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.table import Table
from rich.text import Text

COLUMN_GAP_CHARS = 2
"""Between two columns."""
MAX_HEADING_WIDTH, MAX_WORD_WIDTH = 24, 24
"""Characters up to which a heading, or a word of a text, stays whole where its column is narrow."""


@dataclass(frozen=True, slots=True)
class FittedColumn:
    """A column: its heading and its cells.

    kind: 'number' (on the right, never folded), 'text' (folded between words), or 'name' (folded where it would take
    more than half of the width).
    """

    heading: str
    cells: Sequence[str]
    kind: Literal["name", "text", "number"] = "number"

    def min_chars(self, width: int) -> int:
        """The least number of characters of the column in a table of that width."""
        heading = min(len(self.heading), MAX_HEADING_WIDTH)
        if self.kind == "text":
            words = [word for cell in self.cells for word in cell.split()]
            return max(heading, min(MAX_WORD_WIDTH, max(map(len, words), default=0)))
        longest = max(map(len, self.cells), default=0)
        return max(heading, min(longest, width // 2) if self.kind == "name" else longest)


def split_columns(widths: Sequence[int], width: int, *, repeated: int = 0) -> list[list[int]]:
    """The indices of columns of these widths in as many tables as fit; those after the first begin with `repeated`.

    >>> split_columns([10, 20, 20, 20], 60)
    [[0, 1, 2], [0, 3]]
    """
    tables: list[list[int]] = [[]]
    room = width
    for index, chars in enumerate(widths):
        if chars + COLUMN_GAP_CHARS > room and len(tables[-1]) > 1:
            tables.append([repeated])
            room = width - widths[repeated] - COLUMN_GAP_CHARS
        tables[-1].append(index)
        room -= chars + COLUMN_GAP_CHARS
    return tables


def fitted_tables(columns: Sequence[FittedColumn], width: int) -> list[Table]:
    """The columns as tables of at most `width` characters, each with the first column."""
    widths = [column.min_chars(width) for column in columns]
    return [_make_table([(columns[index], widths[index]) for index in part]) for part in split_columns(widths, width)]


def _make_table(columns: Sequence[tuple[FittedColumn, int]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column, chars in columns:
        justify: Literal["left", "right"] = "right" if column.kind == "number" else "left"
        table.add_column(Text(column.heading), justify=justify, overflow="fold", min_width=chars)
    for row in zip(*(column.cells for column, _ in columns), strict=True):
        table.add_row(*map(Text, row))
    return table
