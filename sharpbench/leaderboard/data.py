"""Data: what the site's script shows, as plain values of JSON: tables of texts with their sort values, and points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sharpbench.contract import Scalar
from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.naming import page_of
from sharpbench.leaderboard.tables import TABLES, Column, Line, Table
from sharpbench.report.judgement import hyperparameters
from sharpbench.report.scores import Score
from sharpbench.report.text import plain

NAME, TITLE = 80, 160
DIGITS = 6
"""Significant digits of a point."""

Json = dict[str, Any]


def data(leaderboard: Leaderboard, *, measure: str | None = None) -> Json:
    """All that the script of a page needs; measure: of this one alone.

    boards: their networks, with gap, reason of exclusion, hyperparameters. tables: columns, and rows of cells, each a
    text or [text, sort value]. points: of a row on a board, a value a network (null where it has none), and its cost
    and error. What came from records is on one line and cut, but not escaped.
    """
    chosen = [
        (index, board, score)
        for index, board in enumerate(leaderboard.boards)
        for score in board.measured
        if measure is None or board.measure(score) == measure
    ]
    points = {(index, score.name): place for place, (index, _, score) in enumerate(chosen)}
    names = {board.measure(score) for _, board, score in chosen}
    used = {index for index, _, _ in chosen}
    tables = [make(leaderboard) for make in TABLES if measure is None or make is not TABLES[0]]
    return {
        "boards": [_board(board) if index in used else None for index, board in enumerate(leaderboard.boards)],
        "pages": {plain(name, NAME): page_of(name) for name in sorted(names)},
        "points": [_points(index, board, score) for index, board, score in chosen],
        "tables": [_table(table, points, None if measure is None else names) for table in tables],
    }


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
        "cost": [score.gradients, score.exactness.largest] if checked and score.exactness else None,
    }


def _table(table: Table, points: dict[tuple[int, str], int], measures: set[str] | None) -> Json:
    lines = [line for line in table.lines if measures is None or line.measure in measures]
    return {
        "id": table.id,
        "title": table.title,
        "note": table.note,
        "columns": [_column(column) for column in table.columns],
        "rows": [_row(line, points) for line in lines],
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


def _row(line: Line, points: dict[tuple[int, str], int]) -> Json:
    place = next((points[index, line.name] for index in line.boards if (index, line.name) in points), None)
    return {
        "name": plain(line.name, NAME),
        "kind": "baseline" if line.measure is None else "measure",
        "page": None if line.measure is None else page_of(line.measure),
        "mark": None if line.mark is None else plain(line.mark, 20),
        "boards": list(line.boards),
        "point": place,
        "cells": [_cell(text, sort) for text, sort in line.cells],
    }


def _cell(text: str, sort: float | None) -> str | Sequence[str | float | None]:
    shown = plain(text, TITLE)
    return shown if sort is None else [shown, sort]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _short(value: Scalar) -> Scalar:
    return plain(value, NAME) if isinstance(value, str) else value
