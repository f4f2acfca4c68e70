"""The scores as tables in the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sharpbench.analysis.costs import format_environment
from sharpbench.analysis.scores import Score
from sharpbench.core.record import Record
from sharpbench.report.board_verdict import describe_power, describe_verdict
from sharpbench.report.columns import (
    DETAILS,
    MAIN,
    MAX_NAME_CHARS,
    NAME,
    RANK,
    STATISTICS,
    TAU,
    TAU_WITHIN,
    Column,
    board_notes,
    describe_board_examples,
    list_axes,
    psi_columns,
)
from sharpbench.report.cost_columns import (
    CHANGE,
    ERROR,
    INVARIANT,
    NO_STDERR,
    ROUNDED_GRADIENTS,
    STDERR,
    TERMINAL_COSTS,
    has_costs,
)
from sharpbench.report.fitted_table import COLUMN_GAP_CHARS, split_columns
from sharpbench.report.format import ACCURACY_GAP, MISSING, format_reasons, plain_text

MIN_FILE_WIDTH = 120
"""Characters of a table that goes to a file."""
MAX_NAME_COLUMN_CHARS = 14
"""Least width of the column of names, in which longer names are folded."""
MAX_REASON_CHARS, MAX_ENVIRONMENT_CHARS = 160, 400
MAX_FAILURES, MAX_NAMES = 12, 6
"""Failures below a board, and names behind a reason; the rest are counted."""
BRIEF = (RANK, NAME, TAU_WITHIN, TAU, INVARIANT, ROUNDED_GRADIENTS)
"""The one table of a board that fits 80 columns; of these, the columns with a value are shown."""
BRIEF_STATISTICS = {name: STATISTICS[name] for name in ("tau within", "tau")}


def show_boards(scores: Sequence[Score], records: Sequence[Record], console: Console, *, full: bool = False) -> None:
    """Print a board for each model and data set, the verdict on it, and notes on missing cells.

    full: print all tables of each board, the legends of their columns, and the environments. Where `console` is not a
    terminal, the tables then keep their width instead of shrinking to 80 columns.
    """
    for _, group in groupby(scores, lambda row: (row.dataset, row.model)):
        rows = list(group)
        heading = f"{plain_text(rows[0].model, MAX_NAME_CHARS)} on {plain_text(rows[0].dataset, MAX_NAME_CHARS)}"
        if rows[0].outcome != ACCURACY_GAP.name:
            heading += f", judged by {rows[0].outcome}"
        _print(Text(heading, style="bold"), console)
        if full:
            _show_tables(rows, console)
        else:
            columns = [column for column in BRIEF if column is NAME or any(_has_value(column, row) for row in rows)]
            console.print(_table(columns, rows, None, _name_chars(columns, rows, console)), crop=False)
            console.print()
        _print(Text(describe_verdict(rows)), console)
        for line in (_describe_board if full else _describe_brief_board)(rows):
            _print(Text(line, style="dim"), console)
        console.print()
    environments = {format_environment(record.environment) for record in records if record.environment}
    for environment in sorted(environments) if full else ():
        _print(Text(f"environment: {plain_text(environment, MAX_ENVIRONMENT_CHARS)}", style="dim"), console)


def _has_value(column: Column[Score], row: Score) -> bool:
    return column.terminal_text(row) not in ("", MISSING)


def _show_tables(rows: list[Score], console: Console) -> None:
    measured = [row for row in rows if row.kind == "measure"]
    details = (*DETAILS, *psi_columns(list_axes(rows)))
    timed = measured if any(map(has_costs, measured)) else []
    for columns, shown in ((MAIN, rows), (details, rows), (TERMINAL_COSTS, timed)):
        for part in _parts(columns, shown, _width(console)) if shown else ():
            width = None if console.is_terminal else _width(console)
            console.print(_table(part, shown, width, _name_chars(part, shown, console)), crop=False)
            console.print()


def _print(text: Text, console: Console) -> None:
    """Print one paragraph; outside a terminal, one line."""
    console.print(text, soft_wrap=not console.is_terminal)


def _width(console: Console) -> int:
    return console.width if console.is_terminal else max(MIN_FILE_WIDTH, console.width)


def _name_chars(columns: Sequence[Column[Score]], rows: Sequence[Score], console: Console) -> int:
    """The characters that the other columns leave to names in one line of the console."""
    others = sum(_min_chars(column, rows) + COLUMN_GAP_CHARS for column in columns if column is not NAME)
    return max(_min_chars(NAME, rows), _width(console) - others - COLUMN_GAP_CHARS)


def _fold_name(name: str, chars: int) -> str:
    """The name in lines of at most `chars` characters, which end behind a hyphen, comma or bracket where they can."""
    lines = [""]
    for part in re.split(r"(?<=[-,\[ ])", name):
        if lines[-1] and len(lines[-1]) + len(part) > chars:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _table(columns: Sequence[Column[Score]], rows: Sequence[Score], width: int | None, name_chars: int) -> Table:
    """The rows in their order, `width` characters wide; a line sets baselines and partial rows apart.

    name_chars: of a line of a name; longer names have several.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, width=width, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        if column is NAME:
            table.add_column(Text(NAME.heading), overflow="fold", min_width=_min_chars(NAME, rows))
        else:
            table.add_column(Text(column.terminal_heading), justify="right", no_wrap=True)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        last = following is not None and (following.partial, following.kind) != (row.partial, row.kind)
        texts = {column: column.terminal_text(row) for column in columns}
        cells = [Text(_fold_name(text, name_chars) if column is NAME else text) for column, text in texts.items()]
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


def _describe_brief_board(rows: list[Score]) -> list[str]:
    measured = [row for row in rows if row.kind == "measure"]
    lines = [_describe_networks(rows[0])]
    shown = [column.footnote for column in BRIEF if column.footnote and any(_has_value(column, row) for row in rows)]
    if shown:
        lines.append("; ".join(shown))
    return lines + _describe_notes(board_notes(measured, BRIEF_STATISTICS)) + _describe_failures(measured)


def _describe_board(rows: list[Score]) -> list[str]:
    first, measured = rows[0], [row for row in rows if row.kind == "measure"]
    lines = [_describe_networks(first)]
    if first.correlations.drawn == "configurations":
        lines.append("configurations were drawn at random: intervals are for as many other configurations of the grid")
        lines.append("intervals of Psi and sign errors are for the same configurations")
    if examples := describe_board_examples(rows):
        lines.append(f"{examples[0].lower()}{examples[1:]}")
    if power := describe_power(rows):
        lines.append(f"power: {power}")
    lines.append("; ".join(column.footnote for column in (*MAIN, *DETAILS) if column.footnote))
    lines += _describe_notes(board_notes(measured))
    if any(row.exactness is not None and row.exactness.oracle != "definition" for row in rows):
        lines.append(ERROR.footnote)
    if any(STDERR.text(row) != NO_STDERR for row in measured):
        lines.append(STDERR.footnote)
    if any(row.invariance for row in rows):
        lines.append(CHANGE.footnote)
    return lines + _describe_failures(measured)


def _describe_networks(first: Score) -> str:
    """How many networks the board is about, and what ranks it."""
    drawn = first.correlations.drawn == "configurations"
    small = "too few configurations have several networks" if drawn else "cells too small"
    by = "tau within cells" if first.ranked_by == "within" else f"tau over all networks ({small} for within)"
    why = f" ({format_reasons(first.unfitted)})" if first.unfitted else ""
    gate = f"{first.excluded - first.unknown} excluded as not fitted{why}"
    if first.unknown:
        gate += f", {first.unknown} as their records do not state {plain_text(first.outcome, MAX_NAME_CHARS)}"
    return f"{first.total} networks, {gate}; ranked by {by}; [95 % intervals]"


def _describe_notes(notes: Sequence[tuple[str, list[str]]]) -> list[str]:
    return [f"{plain_text(reason, MAX_REASON_CHARS)}: {_names(names)}" for reason, names in notes]


def _describe_failures(measured: Sequence[Score]) -> list[str]:
    failed = [
        f"{_name(row.name)}, {each.count} {_name(each.status)}: {plain_text(each.reason, MAX_REASON_CHARS)}"
        for row in measured
        for each in row.failures
    ]
    if len(failed) > MAX_FAILURES:
        failed = [*failed[:MAX_FAILURES], f"and {len(failed) - MAX_FAILURES} more reasons, in the records"]
    return failed


def _name(text: str) -> str:
    return plain_text(text, MAX_NAME_CHARS)


def _names(names: list[str]) -> str:
    shown = ", ".join(map(_name, names[:MAX_NAMES]))
    return shown + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
