"""What the site's script shows, as plain values of JSON: tables of texts with their sort values, and points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sharpbench.analysis.correlations import varied_hyperparameters
from sharpbench.analysis.scores import Score
from sharpbench.core.fields import Scalar
from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.pages.headline import HeadlineRow, headline_rows
from sharpbench.leaderboard.pages.links import MAX_MARK_CHARS, MAX_TITLE_CHARS, page_slug
from sharpbench.leaderboard.site.addresses import network_name
from sharpbench.leaderboard.site.tables import TABLES, Table, TableRow
from sharpbench.report.columns import Column
from sharpbench.report.format import plain_text

MAX_NAME_CHARS = 80
SIGNIFICANT_DIGITS = 6
"""Of points and sort values."""

ROW_FIELDS = ("name", "page", "mark", "point", "boards", "cells")
"""Fields of a row; a row without a page is a baseline."""
PAGE_FIELD, POINT_FIELD = ROW_FIELDS.index("page"), ROW_FIELDS.index("point")

Json = dict[str, Any]


def site_data(leaderboard: Leaderboard) -> Json:
    """The data of the board's script. Texts from records are on one line and cut, but not escaped.

    Returns:
        boards: the networks of each, with gap, page, reason of exclusion and hyperparameters.
        facts: of each measure by its name in the tables its family, what left it unchanged everywhere, and its
            largest cost in gradients.
        points: for each row on a board one value per network (null where there is none), and its cost and error.
        row: the fields of a row.
        tables: columns, and rows of cells, each a text or [text, sort value].
    """
    chosen = [(index, board, score) for index, board in enumerate(leaderboard.boards) for score in board.measured]
    points = {(index, score.name): place for place, (index, _, score) in enumerate(chosen)}
    return {
        "boards": [_board(board) for board in leaderboard.boards],
        "points": [_points(index, board, score) for index, board, score in chosen],
        "row": ROW_FIELDS,
        "facts": {
            plain_text(row.name, MAX_NAME_CHARS): _facts(leaderboard, row)
            for row in headline_rows(leaderboard)
            if row.measure is not None
        },
        "tables": [_table(make(leaderboard), points) for make in TABLES],
    }


def measure_data(whole: Json, page: str) -> Json:
    """The part of `site_data` that one measure's page needs: all tables but the headline, null for other boards."""
    chosen = [place for place, point in enumerate(whole["points"]) if point["page"] == page]
    places = {old: new for new, old in enumerate(chosen)}
    points = [whole["points"][place] for place in chosen]
    used = {point["board"] for point in points}
    tables = [
        table | {"rows": [_renumber_point(row, places) for row in table["rows"] if row[PAGE_FIELD] == page]}
        for table in whole["tables"][1:]
    ]
    boards = [board if index in used else None for index, board in enumerate(whole["boards"])]
    names = {row[ROW_FIELDS.index("name")] for table in tables for row in table["rows"]}
    facts = {name: found for name, found in whole["facts"].items() if name in names}
    return {"boards": boards, "points": points, "row": ROW_FIELDS, "facts": facts, "tables": tables}


def _facts(leaderboard: Leaderboard, row: HeadlineRow) -> list[Any]:
    family = leaderboard.catalog.get(row.measure or "", {}).get("family", "other")
    cost = row.summary.costs[-1] if row.summary.costs else None
    return [plain_text(family, MAX_NAME_CHARS), row.summary.unchanged, _rounded(cost)]


def _board(board: Board) -> Json:
    networks = board.population.networks
    axes = {name: values for name, values in varied_hyperparameters(networks).items() if len(set(map(str, values))) > 1}
    return {
        "title": plain_text(board.title, MAX_TITLE_CHARS),
        "slug": board.slug,
        "pages": [network_name(board, network) for network in networks],
        "gaps": [_rounded(network.outcome) for network in networks],
        "out": [network.exclusion for network in networks],
        "seeds": [_short(network.recipe.get("seed")) for network in networks],
        "axes": {
            plain_text(name, MAX_NAME_CHARS): [_short(value) for value in values] for name, values in axes.items()
        },
    }


def _points(index: int, board: Board, score: Score) -> Json:
    row = board.row(score)
    checked = score.gradients is not None and score.exactness is not None and not score.only_contended
    return {
        "board": index,
        "label": plain_text(score.name, MAX_NAME_CHARS),
        "page": page_slug(board.measure(score)),
        "values": [_rounded(row.value(network)) for network in board.population.networks],
        "cost": [_rounded(score.gradients), _rounded(score.exactness.largest)] if checked and score.exactness else None,
    }


def _table(table: Table, points: dict[tuple[int, str], int]) -> Json:
    return {
        "id": table.id,
        "title": table.title,
        "note": table.note,
        "columns": [_column(column, table, place) for place, column in enumerate(table.columns)],
        "rows": [_row(row, points) for row in table.rows],
    }


def _column(column: Column[Any], table: Table, place: int) -> Json:
    return {
        "title": plain_text(column.heading, MAX_TITLE_CHARS),
        "tip": column.help,
        "number": column.number,
        "down": column.descending,
        "heat": column.heat,
        "board": table.column_boards[place] if place < len(table.column_boards) else None,
    }


def _row(row: TableRow, points: dict[tuple[int, str], int]) -> list[Any]:
    """The fields of a row in the order of ROW_FIELDS, without names because there are many rows."""
    place = next((points[index, row.name] for index in row.boards if (index, row.name) in points), None)
    page = None if row.measure is None else page_slug(row.measure)
    mark = None if row.mark is None else plain_text(row.mark, MAX_MARK_CHARS)
    return [
        plain_text(row.name, MAX_NAME_CHARS),
        page,
        mark,
        place,
        list(row.boards),
        [_cell(*cell) for cell in row.cells],
    ]


def _renumber_point(row: list[Any], places: dict[int, int]) -> list[Any]:
    return [*row[:POINT_FIELD], places.get(row[POINT_FIELD]), *row[POINT_FIELD + 1 :]]


def _cell(text: str, sort: float | None) -> str | Sequence[str | float | None]:
    shown = plain_text(text, MAX_TITLE_CHARS)
    return shown if sort is None else [shown, _rounded(sort)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _short(value: Scalar) -> Scalar:
    return plain_text(value, MAX_NAME_CHARS) if isinstance(value, str) else value
