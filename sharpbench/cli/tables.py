"""Terminal tables of the kinds that several commands print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sharpbench.report.format import plain_text

MAX_CELL_CHARS = 300
"""Longest text shown in one cell; reasons and names may come from other people's code."""

ColumnKind = Literal["text", "name", "number"]
"""A text is folded where it is too long; names and numbers stay whole, numbers on the right."""


def ruled_table(title: str, columns: Mapping[str, ColumnKind], *, show_header: bool = True) -> Table:
    """An empty table with a title, and rules between its columns."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=show_header)
    return _with_columns(table, columns)


def open_table(title: str | None, columns: Mapping[str, ColumnKind]) -> Table:
    """An empty table without rules between its columns."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    return _with_columns(table, columns)


class GrowingTable:
    """A table whose rows are printed as they come, so the widths of all columns but the last are fixed before."""

    def __init__(self, title: str, columns: Mapping[str, tuple[ColumnKind, int | None]], console: Console) -> None:
        """Print title and headings.

        columns: heading -> kind and width in characters; that of the last may be None, which is the rest of the line.
        """
        self._columns, self._console = columns, console
        console.print(Text(title, style="bold"))
        self._print(())

    def add_row(self, *cells: str) -> None:
        """Print one row."""
        self._print(cells)

    def _print(self, cells: Sequence[str]) -> None:
        """Print a row, or without cells the headings."""
        table = Table(box=None, show_header=not cells, padding=(0, 1, 0, 0), pad_edge=False)
        _with_columns(table, {heading: kind for heading, (kind, _) in self._columns.items()})
        for column, (_, width) in zip(table.columns, self._columns.values(), strict=True):
            column.width = width
        if cells:
            table.add_row(*map(Text, cells))
        self._console.print(table, crop=False)


def _with_columns(table: Table, columns: Mapping[str, ColumnKind]) -> Table:
    for heading, kind in columns.items():
        justify: Literal["left", "right"] = "right" if kind == "number" else "left"
        table.add_column(Text(heading), justify=justify, overflow="fold", no_wrap=kind != "text")
    return table


def facts_table(facts: Iterable[tuple[str, str]]) -> Table:
    """A table with one fact per row: its name, and its text cut to MAX_CELL_CHARS."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts:
        table.add_row(Text(name, style="dim"), Text(plain_text(text, MAX_CELL_CHARS)))
    return table
