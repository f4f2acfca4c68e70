"""Naming: rows as cells of Markdown that lead to the pages of their measures; what others sent named as such."""

from __future__ import annotations

from typing import Literal

from sharpbench.analysis.scores import Score
from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.report.escape import escape_cell, make_slug
from sharpbench.report.markdown import Named, named

MEASURES = "measures"
PLOTS = "plots"


def page_of(measure: str) -> str:
    """The file name of a measure's page, without suffix."""
    return make_slug(measure)


def measure_link(measure: str, text: str, mark: str | None) -> str:
    """`text` as a link from the pages of the leaderboard to the page of `measure`; the mark of its entry behind it."""
    marked = f" ({escape_cell(mark, 20)})" if mark else ""
    return f"[{escape_cell(text)}]({MEASURES}/{page_of(measure)}.md){marked}"


def link_measures(leaderboard: Leaderboard, board: Board) -> Named:
    """The names of the rows of `board`: measures as links, baselines in italics."""

    def name(score: Score) -> str:
        if score.kind == "baseline":
            return named(score)
        return measure_link(board.measure(score), score.name, leaderboard.mark([(board, score)]))

    return name


def explain_marks(board: Board, axis: Literal["exact", "invariance", "speed"]) -> tuple[str, ...]:
    """What is to be said above numbers that others sent; nothing above our own."""
    if board.entry is None:
        return ()
    if axis == "speed":
        return ("Submitted: seconds, gradients and memory are the submitter's word, and nobody can verify them.",)
    found = board.entry.standing.exact if axis == "exact" else board.entry.standing.invariance
    what = "values of oracles" if axis == "exact" else "records with factors of change"
    return (f"Submitted: {found.agreed} of {found.claimed} {what} in this entry were recomputed and agreed.",)
