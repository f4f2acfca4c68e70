"""The scores of all boards as CSV and JSON, which the site offers next to what it shows."""

from __future__ import annotations

import csv
import io
from typing import Any

from sharpbench.analysis.scores import Score
from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.evidence import list_evidence
from sharpbench.report.escape import guard_formula
from sharpbench.report.format import plain_text
from sharpbench.report.headline_json import tau_fields

MAX_TEXT_CHARS = 200

Row = dict[str, Any]


def list_rows(leaderboard: Leaderboard) -> list[Row]:
    """One row per measure or baseline on each board: tau, intervals, rank, cost, error and what left it unchanged."""
    facts = {(one.index, one.score.name): (one.cost, one.invariant) for one in list_evidence(leaderboard)}
    return [
        _row(board, score, *facts.get((index, score.name) if score.kind == "measure" else (-1, ""), (None, ())))
        for index, board in enumerate(leaderboard.boards)
        for score in board.scores
    ]


def _row(board: Board, score: Score, cost: float | None, invariant: tuple[str, ...]) -> Row:
    return {
        "population": plain_text(board.slug, MAX_TEXT_CHARS),
        "collection": plain_text(board.origin, MAX_TEXT_CHARS),
        "model": plain_text(board.population.model, MAX_TEXT_CHARS),
        "dataset": plain_text(board.population.dataset, MAX_TEXT_CHARS),
        "name": plain_text(score.name, MAX_TEXT_CHARS),
        "kind": score.kind,
        "networks": score.networks,
        "ranked_by": score.ranked_by,
        "rank": score.rank,
        **dict(tau_fields("tau_within_cells", score.within)),
        **dict(tau_fields("tau", score.marginal)),
        "gradients": cost,
        "unchanged_by": " ".join(invariant),
        "largest_relative_error": None if score.exactness is None else score.exactness.largest,
    }


def format_csv(rows: list[Row]) -> str:
    """The rows as CSV with a header, an empty field for what is missing; no text is a formula of a spreadsheet."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(rows[0] if rows else [])
    writer.writerows([_field(value) for value in row.values()] for row in rows)
    return buffer.getvalue()


def _field(value: object) -> object:
    if isinstance(value, str):
        return guard_formula(value)
    return "" if value is None else value
