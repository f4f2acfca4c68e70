"""The scores as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sharpbench.analysis.costs import format_environment
from sharpbench.analysis.scores import Score
from sharpbench.core.record import Record
from sharpbench.report.columns import (
    DETAILS,
    MAIN,
    MAX_NAME_CHARS,
    NAME,
    Column,
    board_notes,
    describe_examples,
    list_axes,
    psi_columns,
)
from sharpbench.report.cost_columns import CHANGE, ERROR, NO_STDERR, STDERR, TERMINAL_COSTS, has_costs
from sharpbench.report.fitted_table import split_columns
from sharpbench.report.format import format_reasons, plain_text

MIN_FILE_WIDTH = 120
"""Characters of a table that goes to a file."""
MAX_NAME_COLUMN_CHARS = 14
"""Least width of the column of names, in which longer names are folded."""
MAX_REASON_CHARS, MAX_ENVIRONMENT_CHARS = 160, 400
MAX_FAILURES, MAX_NAMES = 12, 6
"""Failures below a board, and names behind a reason; the rest are counted."""


def show_boards(scores: Sequence[Score], records: Sequence[Record], console: Console) -> None:
    """Print the tables of each model and data set, notes on missing cells, and the environments.

    Where `console` is not a terminal, tables keep their width instead of shrinking to 80 columns.
    """
    for _, rows in groupby(scores, lambda row: (row.dataset, row.model)):
        _show_board(list(rows), console)
    for environment in sorted({format_environment(record.environment) for record in records if record.environment}):
        _print(Text(f"environment: {plain_text(environment, MAX_ENVIRONMENT_CHARS)}", style="dim"), console)


def _show_board(rows: list[Score], console: Console) -> None:
    first = rows[0]
    _print(
        Text(f"{plain_text(first.model, MAX_NAME_CHARS)} on {plain_text(first.dataset, MAX_NAME_CHARS)}", style="bold"),
        console,
    )
    measured = [row for row in rows if row.kind == "measure"]
    details = (*DETAILS, *psi_columns(list_axes(rows)))
    timed = measured if any(map(has_costs, measured)) else []
    for columns, shown in ((MAIN, rows), (details, rows), (TERMINAL_COSTS, timed)):
        for part in _parts(columns, shown, _width(console)) if shown else ():
            console.print(_table(part, shown, console), crop=False)
    for line in _describe_board(rows):
        _print(Text(line, style="dim"), console)
    console.print()


def _print(text: Text, console: Console) -> None:
    """Print one paragraph; outside a terminal, one line."""
    console.print(text, soft_wrap=not console.is_terminal)


def _width(console: Console) -> int:
    return console.width if console.is_terminal else max(MIN_FILE_WIDTH, console.width)


def _table(columns: Sequence[Column[Score]], rows: Sequence[Score], console: Console) -> Table:
    """The rows in their order; a line sets baselines and partial rows apart."""
    table = Table(
        box=box.SIMPLE_HEAD,
        width=None if console.is_terminal else _width(console),
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for column in columns:
        if column is NAME:
            table.add_column(Text(NAME.heading), overflow="fold", min_width=_min_chars(NAME, rows))
        else:
            table.add_column(Text(column.terminal_heading), justify="right", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        last = following is not None and (following.partial, following.kind) != (row.partial, row.kind)
        cells = [Text(column.terminal_text(row)) for column in columns]
        table.add_row(*cells, style="italic dim" if row.kind == "baseline" else None, end_section=last)
    return table


def _parts(columns: Sequence[Column[Score]], rows: Sequence[Score], width: int) -> list[list[Column[Score]]]:
    """The columns in as many tables as a terminal of that width needs, each with the names."""
    widths = [_min_chars(column, rows) for column in columns]
    return [[columns[i] for i in part] for part in split_columns(widths, width, repeated=columns.index(NAME))]


def _min_chars(column: Column[Score], rows: Sequence[Score]) -> int:
    """The least width of a column: that of its longest cell, or less for names, which may be folded."""
    longest = max(len(text) for text in (column.terminal_heading, *map(column.terminal_text, rows)))
    return min(longest, MAX_NAME_COLUMN_CHARS) if column is NAME else longest


def _describe_board(rows: list[Score]) -> list[str]:
    first, measured = rows[0], [row for row in rows if row.kind == "measure"]
    by = "tau within cells" if first.ranked_by == "within" else "tau over all networks (cells too small for within)"
    why = f" ({format_reasons(first.exclusions)})" if first.exclusions else ""
    gate = f"{first.excluded} excluded as not fitted{why}"
    lines = [f"{first.total} networks, {gate}; ranked by {by}; [95 % intervals]"]
    if first.correlations.drawn == "configurations":
        lines.append("configurations were drawn at random: intervals are for as many other configurations of the grid")
        lines.append("intervals of Psi and sign errors are for the same configurations")
    if examples := describe_examples(rows):
        lines.append(f"{examples[0].lower()}{examples[1:]}")
    lines.append("; ".join(column.footnote for column in (*MAIN, *DETAILS) if column.footnote))
    lines += [f"{plain_text(reason, MAX_REASON_CHARS)}: {_names(names)}" for reason, names in board_notes(measured)]
    if any(row.exactness is not None and row.exactness.oracle != "definition" for row in rows):
        lines.append(ERROR.footnote)
    if any(STDERR.text(row) != NO_STDERR for row in measured):
        lines.append(STDERR.footnote)
    if any(row.invariance for row in rows):
        lines.append(CHANGE.footnote)
    failed = [
        f"{_name(row.name)}, {each.count} {_name(each.status)}: {plain_text(each.reason, MAX_REASON_CHARS)}"
        for row in measured
        for each in row.failures
    ]
    if len(failed) > MAX_FAILURES:
        failed = [*failed[:MAX_FAILURES], f"and {len(failed) - MAX_FAILURES} more reasons, in the records"]
    return lines + failed


def _name(text: str) -> str:
    return plain_text(text, MAX_NAME_CHARS)


def _names(names: list[str]) -> str:
    shown = ", ".join(map(_name, names[:MAX_NAMES]))
    return shown + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
