"""What the first page of the site shows."""

from __future__ import annotations

from typing import Any

from sharpbench.analysis.statistics import Tau
from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.evidence import list_evidence
from sharpbench.leaderboard.pages.headline import headline_rows, judged_boards, ranking_tau, tau_column
from sharpbench.leaderboard.pages.links import MAX_MARK_CHARS
from sharpbench.leaderboard.pages.score import baseline_names, format_psi, measure_of
from sharpbench.leaderboard.site.addresses import measure_address, population_address
from sharpbench.leaderboard.site.pictures import draw_costs, draw_intervals, draw_scores
from sharpbench.report.board_verdict import describe_verdict
from sharpbench.report.format import MISSING, format_correlation, plain_text
from sharpbench.report.headline_plots import list_columns

MAX_DRAWN_MEASURES = 6
"""Measures of an interval picture of the first page; the page of the population draws all."""
MAX_CARDS = 12
"""Populations with a picture on the first page."""
SHADES = 4
"""Steps of the colours of the heat map on each side of 0."""
MAX_NAME_CHARS = 60


def landing_values(leaderboard: Leaderboard) -> dict[str, Any]:
    """What the template of the first page takes."""
    judged = judged_boards(leaderboard)
    boards = [leaderboard.boards[index] for index in judged]
    tau_columns = [tau_column(leaderboard, index) for index in judged]
    rows = [
        {
            "name": plain_text(row.name, MAX_NAME_CHARS),
            "kind": "baseline" if row.measure is None else "measure",
            "address": None if row.measure is None else measure_address(row.measure),
            "mark": None if row.mark is None else plain_text(row.mark, MAX_MARK_CHARS),
            "cells": [
                (column.text(row), _shade(ranking_tau(row.scores.get(index))))
                for index, column in zip(judged, tau_columns, strict=True)
            ],
        }
        for row in headline_rows(leaderboard)
    ]
    return {
        "measures": len(leaderboard.measures),
        "networks": f"{sum(len(board.population.networks) for board in leaderboard.boards):,}",
        "cards": [
            _card(board)
            | {"verdict": describe_verdict(board.scores), "picture": draw_intervals(board, MAX_DRAWN_MEASURES)}
            for board in boards[:MAX_CARDS]
        ],
        "columns": [
            (plain_text(column.heading, MAX_NAME_CHARS), population_address(board))
            for column, board in zip(tau_columns, boards, strict=True)
        ],
        "rows": rows,
        "score": _score_values(leaderboard),
        "costs": _cost_cards(leaderboard),
    }


def _score_values(leaderboard: Leaderboard) -> dict[str, Any]:
    """The headline scores as a picture, and Psi of each by population and outcome."""
    headline, baselines = leaderboard.headline, baseline_names(leaderboard)
    columns = list_columns(headline)
    return {
        "picture": draw_scores(headline, baselines) if headline.entering else None,
        "entering": [_card(leaderboard.boards[index]) for index in headline.entering],
        "groups": [
            _card(leaderboard.boards[index]) | {"width": len(one.outcomes), "number": number + 1}
            for number, (index, one) in enumerate(headline.populations.items())
        ],
        "outcomes": [plain_text(outcome, MAX_NAME_CHARS) for _, outcome in columns],
        "rows": [
            {
                "name": plain_text(score.name, MAX_NAME_CHARS),
                "kind": "baseline" if score.name in baselines else "measure",
                "address": None if measure is None else measure_address(measure),
                "total": MISSING if score.tau.value is None else format_correlation(score.tau.value),
                "cells": [_psi_cell(score.parts.get(column)) for column in columns],
            }
            for score in headline.scores
            for measure in (measure_of(leaderboard, score),)
        ],
    }


def _psi_cell(tau: Tau | None) -> tuple[str, str]:
    """Psi with a star where its interval does not hold 0, and the class of its cell."""
    value = None if tau is None else tau.value
    return format_psi(tau), _shade(value)


def _card(board: Board) -> dict[str, Any]:
    return {"title": plain_text(board.title, 100), "address": population_address(board)}


def _shade(value: float | None) -> str:
    """The class of a cell: the sign of a correlation, and its size in steps."""
    step = 0 if value is None else round(abs(value) * SHADES)
    return f"heat-{'more' if (value or 0.0) > 0 else 'less'}-{step}" if step else ""


def _cost_cards(leaderboard: Leaderboard) -> list[dict[str, Any]]:
    """The populations where a measure predicts the gap; where there are none, the first two."""
    evidence = list_evidence(leaderboard)
    judged = judged_boards(leaderboard)
    useful = [index for index in judged if any(one.predicts for one in evidence if one.index == index)]
    found = []
    for index in (useful or judged[:2])[:MAX_CARDS]:
        picture = draw_costs([one for one in evidence if one.index == index])
        if picture is not None:
            found.append(_card(leaderboard.boards[index]) | {"picture": picture})
    return found
