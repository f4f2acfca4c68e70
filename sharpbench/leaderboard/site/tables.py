"""The tables of the site: the columns of the pages as texts, with the values by which the script sorts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sharpbench.analysis.scores import Score
from sharpbench.leaderboard.board import Board, BoardRow, Leaderboard
from sharpbench.leaderboard.pages.exactness import INTERVALS_HELD
from sharpbench.leaderboard.pages.headline import SUMMARY_COLUMNS, headline_rows, judged_boards, tau_column
from sharpbench.leaderboard.pages.links import POPULATION, board_column
from sharpbench.report.columns import ALL_STATISTICS, Column
from sharpbench.report.cost_columns import (
    COMPARED_NETWORKS,
    EXAMPLE_STDERR,
    GRADIENTS,
    LARGEST_ERROR,
    MEDIAN_ERROR,
    MEMORY,
    ORACLE,
    PROBE_STDERR,
    factor_columns,
    list_environments,
    seconds_columns,
)
from sharpbench.report.format import plain_text
from sharpbench.report.markdown import assign_letters

MAX_ENVIRONMENT_CHARS = 400

Cell = tuple[str, float | None]
"""A text, and the number by which it is sorted; None: by the text, and a dash last."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of the site.

    Args:
        measure: None for a baseline.
        mark: A word about its entry, shown behind the name.
        boards: The numbers of the boards that the row is about.
        cells: One for each column behind the name.
    """

    name: str
    measure: str | None
    mark: str | None
    boards: tuple[int, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """One view of the site.

    Args:
        column_boards: The numbers of the boards that the first columns are about; the others are about all.
    """

    id: str
    title: str
    note: str
    columns: tuple[Column[Any], ...]
    rows: tuple[TableRow, ...]
    column_boards: tuple[int, ...] = ()


def overview_table(leaderboard: Leaderboard) -> Table:
    """The headline table, with a column for every board."""
    shown = judged_boards(leaderboard)
    columns = (*(tau_column(leaderboard, index) for index in shown), *SUMMARY_COLUMNS)
    rows = tuple(
        TableRow(row.name, row.measure, row.mark, tuple(sorted(row.scores)), _cells(columns, row))
        for row in headline_rows(leaderboard)
    )
    note = (
        "Kendall's tau of each measure with the generalization gap, one column per population. It is taken within "
        "cells of fixed hyperparameters or, where a heading says marginal, over all networks, which flatters. The rank "
        "is in brackets: one plus the number of measures that are significantly better. Submitted populations have "
        "separate columns and enter no summary of a measure that we measured."
    )
    return Table("overview", "Overview", note, columns, rows, tuple(shown))


def correlation_table(leaderboard: Leaderboard) -> Table:
    """Every number of the protocol, one row per measure or baseline on a board."""
    note = "Every number of the protocol with its 95 % interval; each population is judged separately."
    columns = (POPULATION, *map(board_column, ALL_STATISTICS))
    boards = [(index, board) for index, board in enumerate(leaderboard.boards) if board.judged]
    found = [(index, (board, score)) for index, board in boards for score in board.scores]
    return Table("correlation", "Correlation", note, columns, _rows(leaderboard, columns, found))


def exactness_table(leaderboard: Leaderboard) -> Table:
    """Values against oracles."""
    compared = map(board_column, (LARGEST_ERROR, MEDIAN_ERROR, COMPARED_NETWORKS, ORACLE))
    stderrs = map(board_column, (PROBE_STDERR, EXAMPLE_STDERR))
    note = (
        "|value - exact| / |exact|, against the measure's own oracle in float64, on a few networks of each population. "
        "The oracle works on the same examples. Standard errors are over random vectors on these examples, and over "
        "the draw of the examples where they are a part of those that the networks were trained on (else: all)."
    )
    columns = (POPULATION, *compared, INTERVALS_HELD, *stderrs)
    found = _select(leaderboard, lambda score: score.exactness is not None)
    return Table("exactness", "Exactness", note, columns, _rows(leaderboard, columns, found))


def speed_table(leaderboard: Leaderboard) -> Table:
    """Gradients and memory, and one column of seconds per environment."""
    letters = assign_letters(record for board in leaderboard.boards for record in board.records)
    environments = list_environments(score for board in leaderboard.boards for score in board.measured)
    columns = (POPULATION, *map(board_column, (GRADIENTS, *seconds_columns(environments, letters), MEMORY)))
    note = "Medians of one standalone call. Gradients can be compared between machines; seconds cannot: "
    note += "; ".join(f"{letters.get(each, '')}: {plain_text(each, MAX_ENVIRONMENT_CHARS)}" for each in environments)
    found = _select(leaderboard, lambda score: bool(score.timings))
    return Table("speed", "Speed", note, columns, _rows(leaderboard, columns, found))


def invariance_table(leaderboard: Leaderboard) -> Table:
    """Factors of change under rewrites of the same function."""
    factors = factor_columns(score for board in leaderboard.boards for score in board.measured)
    columns = (POPULATION, *map(board_column, factors))
    note = "The factor by which the value changed when the weights were rewritten at random and the function stayed."
    found = _select(leaderboard, lambda score: bool(score.invariance))
    return Table("invariance", "Invariance", note, columns, _rows(leaderboard, columns, found))


def _select(leaderboard: Leaderboard, wanted: Callable[[Score], bool]) -> list[tuple[int, BoardRow]]:
    """The scores of measures that are wanted, with their board and its number."""
    boards: Sequence[Board] = leaderboard.boards
    return [(index, (board, score)) for index, board in enumerate(boards) for score in board.measured if wanted(score)]


def _rows(
    leaderboard: Leaderboard, columns: Sequence[Column[BoardRow]], found: Sequence[tuple[int, BoardRow]]
) -> tuple[TableRow, ...]:
    rows = []
    for index, (board, score) in found:
        measure = None if score.kind == "baseline" else board.measure(score)
        mark = None if measure is None else leaderboard.mark([(board, score)])
        rows.append(TableRow(score.name, measure, mark, (index,), _cells(columns, (board, score))))
    return tuple(rows)


def _cells(columns: Sequence[Column[Any]], row: object) -> tuple[Cell, ...]:
    return tuple((column.text(row), column.value(row)) for column in columns)


TABLES = (overview_table, correlation_table, exactness_table, speed_table, invariance_table)
"""Views of the site, the headline first."""
