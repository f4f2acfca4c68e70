"""LEADERBOARD.md as a pure function of scores and records, and boards as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sharpbench.analysis.costs import format_environment
from sharpbench.analysis.scores import Score
from sharpbench.core.record import Record
from sharpbench.report.columns import (
    CHANCE,
    DETAILS,
    MAIN,
    NAME,
    Column,
    board_notes,
    describe_board_examples,
    list_axes,
    psi_columns,
)
from sharpbench.report.cost_columns import (
    ERROR,
    EXAMPLE_STDERR,
    GRADIENTS,
    MEMORY,
    PROBE_STDERR,
    factor_columns,
    has_costs,
    list_environments,
    matrix_columns,
    seconds_columns,
)
from sharpbench.report.escape import escape_cell, markdown_table
from sharpbench.report.format import ACCURACY_GAP, OutcomeLabel, format_reasons

MAX_REASONS = 20
"""Reasons of failures below a board; the rest are counted."""
MAX_AXES = 12
"""Hyperparameters that have a column of psi."""
MAX_HEADING_CHARS = 120

Row = TypeVar("Row")
FormatName = Callable[[Score], Markup]
"""Gives the cell of a row's name."""


def markdown_leaderboard(
    scores: Sequence[Score],
    records: Sequence[Record],
    *,
    version: str,
    overview: str | None = None,
    outcome: OutcomeLabel = ACCURACY_GAP,
) -> str:
    """The page as text, equal for equal records in any order.

    Args:
        overview: The address of the overview figure, relative to the page; None leaves it out.
        outcome: What the measures are judged by.
    """
    letters = assign_letters(records)
    groups = [list(rows) for _, rows in groupby(scores, lambda row: (row.dataset, row.model))]
    boards = [
        {**describe_board(rows), "costs": _cost_table([row for row in rows if row.kind == "measure"], letters)}
        for rows in groups
    ]
    return render_board(
        "leaderboard", boards=boards, letters=letters, version=version, overview=overview, outcome=outcome
    )


def render_board(template: str, **values: object) -> str:
    """A template of this package as text; all values are escaped."""
    pages = Environment(
        loader=PackageLoader("sharpbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    pages.filters["cell"] = escape_cell
    return pages.get_template(f"{template}.md.jinja").render(values)


def assign_letters(records: Iterable[Record]) -> dict[str, str]:
    """A letter for each environment, in alphabetical order."""
    environments = sorted({format_environment(record.environment) for record in records if record.environment})
    return {environment: _letter(index) for index, environment in enumerate(environments)}


def _letter(index: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    return (_letter(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)


def format_name(row: Score) -> Markup:
    """The name of a row as a cell; baselines in italics."""
    return Markup(f"*{escape_cell(row.name)}*") if row.kind == "baseline" else escape_cell(row.name)


def describe_board(rows: list[Score], name: FormatName = format_name) -> dict[str, object]:
    """What the templates show of one model and data set except its costs; name: gives the cell of a row's name."""
    first, axes = rows[0], list_axes(rows)
    details = [*DETAILS, CHANCE, *psi_columns(axes[:MAX_AXES])]
    measured = [row for row in rows if row.kind == "measure"]
    failed = sorted(
        ((each.count, row.name, each.status, each.reason) for row in measured for each in row.failures),
        key=lambda each: (-each[0], *each[1:]),
    )
    return {
        "dataset": first.dataset,
        "model": first.model,
        "correlations": _main_table(rows, _named_columns(MAIN, name)),
        "by_axis": board_table(_named_columns(details, name), rows),
        "total": first.total,
        "excluded": first.excluded - first.unknown,
        "exclusions": format_reasons(first.unfitted),
        "unknown": first.unknown,
        "outcome": first.outcome,
        "examples": describe_board_examples(rows),
        "more_axes": len(axes) - MAX_AXES,
        "ranked_by": first.ranked_by,
        "random": first.correlations.drawn == "configurations",
        "ranked": any(row.rank is not None for row in rows),
        "partial": any(row.partial for row in rows),
        "approximate": any(row.exactness is not None and row.exactness.oracle != "definition" for row in rows),
        "notes": board_notes(measured),
        "failures": failed[:MAX_REASONS],
        "more_failures": len(failed) - MAX_REASONS,
    }


def board_table(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> Markup:
    """The columns of the rows as a Markdown table; texts other than markup are escaped and cut."""
    return _format_table(columns, [table_cells(columns, row) for row in rows])


def table_cells(columns: Sequence[Column[Row]], row: Row) -> list[str]:
    """The cells of one row, escaped."""
    return [escape_cell(column.text(row), column.max_chars) for column in columns]


def _format_table(columns: Sequence[Column[Row]], lines: list[list[str]]) -> Markup:
    header = [str(escape_cell(column.heading, MAX_HEADING_CHARS)) for column in columns]
    return markdown_table(header, lines, {index for index, column in enumerate(columns) if column.number})


def _named_columns(columns: Sequence[Column[Score]], name: FormatName) -> list[Column[Score]]:
    """The columns, with `name` as the cell of a row's name."""
    return [replace(column, text=name) if column is NAME else column for column in columns]


def _main_table(rows: list[Score], columns: Sequence[Column[Score]]) -> Markup:
    """How each row goes with the gap; a line sets partial rows apart."""
    lines: list[list[str]] = []
    for index, row in enumerate(rows):
        if row.partial and not (index and rows[index - 1].partial):
            lines.append(["", "**partial, not ranked**", *[""] * (len(columns) - 2)])
        lines.append(table_cells(columns, row))
    return _format_table(columns, lines)


def _cost_table(rows: list[Score], letters: Mapping[str, str]) -> Markup:
    """Exactness, standard errors, invariance and cost of the measures; empty where nothing of it is known."""
    if not any(has_costs(row) for row in rows):
        return Markup("")
    environments = list_environments(rows)
    seconds = seconds_columns(environments or [""], letters if len(environments) > 1 else {})
    stderrs = (PROBE_STDERR, EXAMPLE_STDERR)
    columns = (NAME, ERROR, *stderrs, *matrix_columns(rows), *factor_columns(rows), *seconds, GRADIENTS, MEMORY)
    return board_table(_named_columns(columns, format_name), rows)
