"""Naming: rows as cells of Markdown that lead to the pages of their measures."""

from __future__ import annotations

from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.report.markdown import Named, named
from sharpbench.report.markup import cell, slug
from sharpbench.report.scores import Score

MEASURES = "measures"
PLOTS = "plots"


def page_of(measure: str) -> str:
    """The file name of a measure's page, without suffix."""
    return slug(measure)


def link(measure: str, text: str, mark: str | None) -> str:
    """`text` as a link from the pages of the leaderboard to the page of `measure`; the mark of its entry behind it."""
    marked = f" ({cell(mark, 20)})" if mark else ""
    return f"[{cell(text)}]({MEASURES}/{page_of(measure)}.md){marked}"


def linked(leaderboard: Leaderboard, board: Board) -> Named:
    """The names of the rows of `board`: measures as links, baselines in italics."""

    def name(score: Score) -> str:
        if score.kind == "baseline":
            return named(score)
        return link(board.measure(score), score.name, leaderboard.marks.get(score.label))

    return name
