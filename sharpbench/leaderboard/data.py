"""Data: what the site's script shows, as plain values of JSON: tables of texts with their sort values, and points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sharpbench.analysis.correlations import hyperparameters
from sharpbench.analysis.scores import Score
from sharpbench.core.fields import Scalar
from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.naming import page_of
from sharpbench.leaderboard.tables import TABLES, Column, Line, Table
from sharpbench.report.format import plain

NAME, TITLE = 80, 160
DIGITS = 6
"""Significant digits of points and sort values."""

ROW = ("name", "page", "mark", "point", "boards", "cells")
"""Fields of a row; without a page it is a baseline."""
PAGE, POINT = ROW.index("page"), ROW.index("point")

Json = dict[str, Any]


def data(leaderboard: Leaderboard) -> Json:
    """All that the script of the board needs.

    boards: their networks, with gap, reason of exclusion, hyperparameters. tables: columns, and rows of cells, each a
    text or [text, sort value]; row: the fields of a row. points: of a row on a board, a value a network (null where it
    has none), and its cost and error. What came from records is on one line and cut, but not escaped.
    """
    chosen = [(index, board, score) for index, board in enumerate(leaderboard.boards) for score in board.measured]
    points = {(index, score.name): place for place, (index, _, score) in enumerate(chosen)}
    return {
        "boards": [_board(board) for board in leaderboard.boards],
        "points": [_points(index, board, score) for index, board, score in chosen],
        "row": ROW,
        "tables": [_table(make(leaderboard), points) for make in TABLES],
    }


def part(whole: Json, page: str) -> Json:
    """Of all `data`, what the page of one measure needs: all tables but the headline, and null for other boards."""
    chosen = [place for place, point in enumerate(whole["points"]) if point["page"] == page]
    places = {old: new for new, old in enumerate(chosen)}
    points = [whole["points"][place] for place in chosen]
    used = {point["board"] for point in points}
    tables = [
        table | {"rows": [_pointing(row, places) for row in table["rows"] if row[PAGE] == page]}
        for table in whole["tables"][1:]
    ]
    boards = [board if index in used else None for index, board in enumerate(whole["boards"])]
    return {"boards": boards, "points": points, "row": ROW, "tables": tables}


def _board(board: Board) -> Json:
    networks = board.population.networks
    axes = {name: values for name, values in hyperparameters(networks).items() if len(set(map(str, values))) > 1}
    return {
        "title": plain(board.title, TITLE),
        "gaps": [_rounded(network.gap) for network in networks],
        "out": [network.exclusion for network in networks],
        "seeds": [_short(network.recipe.get("seed")) for network in networks],
        "axes": {plain(name, NAME): [_short(value) for value in values] for name, values in axes.items()},
    }


def _points(index: int, board: Board, score: Score) -> Json:
    row = board.row(score)
    checked = score.gradients is not None and score.exactness is not None
    return {
        "board": index,
        "label": plain(score.name, NAME),
        "page": page_of(board.measure(score)),
        "values": [_rounded(row.value(network)) for network in board.population.networks],
        "cost": [_rounded(score.gradients), _rounded(score.exactness.largest)] if checked and score.exactness else None,
    }


def _table(table: Table, points: dict[tuple[int, str], int]) -> Json:
    return {
        "id": table.id,
        "title": table.title,
        "note": table.note,
        "columns": [_column(column) for column in table.columns],
        "rows": [_row(line, points) for line in table.lines],
    }


def _column(column: Column) -> Json:
    return {
        "title": plain(column.title, TITLE),
        "tip": column.tip,
        "number": column.number,
        "down": column.down,
        "heat": column.heat,
        "board": column.board,
    }


def _row(line: Line, points: dict[tuple[int, str], int]) -> list[Any]:
    """As `ROW` names them: there are many rows, so their fields are not named in each."""
    place = next((points[index, line.name] for index in line.boards if (index, line.name) in points), None)
    page = None if line.measure is None else page_of(line.measure)
    mark = None if line.mark is None else plain(line.mark, 20)
    return [plain(line.name, NAME), page, mark, place, list(line.boards), [_cell(*cell) for cell in line.cells]]


def _pointing(row: list[Any], places: dict[int, int]) -> list[Any]:
    return [*row[:POINT], places.get(row[POINT]), *row[POINT + 1 :]]


def _cell(text: str, sort: float | None) -> str | Sequence[str | float | None]:
    shown = plain(text, TITLE)
    return shown if sort is None else [shown, _rounded(sort)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _short(value: Scalar) -> Scalar:
    return plain(value, NAME) if isinstance(value, str) else value
