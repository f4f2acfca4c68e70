"""The scores of all boards as CSV and JSON, which the site offers next to what it shows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from sharpbench.analysis.scores import Score
from sharpbench.analysis.statistics import Tau
from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.evidence import list_evidence
from sharpbench.report.escape import guard_formula
from sharpbench.report.format import plain_text

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
        **dict(_tau_fields("tau_within_cells", score.within)),
        **dict(_tau_fields("tau", score.marginal)),
        "gradients": cost,
        "unchanged_by": " ".join(invariant),
        "largest_relative_error": None if score.exactness is None else score.exactness.largest,
    }


def list_scores(leaderboard: Leaderboard) -> list[Row]:
    """One row per headline score, with its interval, rank, the reason where it has none, and its parts."""
    headline = leaderboard.headline
    slugs = {index: plain_text(leaderboard.boards[index].slug, MAX_TEXT_CHARS) for index in headline.populations}
    return [
        {
            "name": plain_text(score.name, MAX_TEXT_CHARS),
            "kind": score.kind,
            "rank": score.rank,
            "populations": [slugs[index] for index in headline.entering],
            **dict(_tau_fields("score", score.tau)),
            "reason": None if score.tau.reason is None else plain_text(score.tau.reason, MAX_TEXT_CHARS),
            "parts": [
                {
                    "population": slugs[index],
                    "outcome": plain_text(outcome, MAX_TEXT_CHARS),
                    **dict(_tau_fields("psi", tau)),
                }
                for (index, outcome), tau in score.parts.items()
            ],
        }
        for score in headline.scores
    ]


def _tau_fields(name: str, tau: Tau) -> Iterator[tuple[str, float | None]]:
    yield name, tau.value
    yield f"{name}_low", None if tau.interval is None else tau.interval.low
    yield f"{name}_high", None if tau.interval is None else tau.interval.high


def format_json(rows: list[Row]) -> str:
    """The rows as a JSON array, null for what is missing."""
    return json.dumps(rows, allow_nan=False, ensure_ascii=True, indent=0) + "\n"


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
