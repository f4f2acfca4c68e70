"""Cells of Markdown that name a measure or its population, with links; and remarks on submitted numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from markupsafe import Markup

from sharpbench.analysis.scores import Score
from sharpbench.leaderboard.board import Board, BoardRow, Leaderboard
from sharpbench.report.columns import NAME, Column
from sharpbench.report.escape import escape_cell, make_slug
from sharpbench.report.markdown import FormatName, format_name

MEASURES = "measures"
PLOTS = "plots"
MAX_TITLE_CHARS = 160
MAX_MARK_CHARS = 20

POPULATION: Column[BoardRow] = Column(
    heading="population",
    text=lambda row: row[0].title,
    help="collection: model on data set",
    number=False,
    max_chars=MAX_TITLE_CHARS,
)


def board_column(column: Column[Score]) -> Column[BoardRow]:
    """A column of scores for rows that hold their board."""
    return Column(
        heading=column.heading,
        text=lambda row: column.text(row[1]),
        value=lambda row: column.value(row[1]),
        help=column.help,
        number=column.number,
        descending=column.descending,
        heat=column.heat,
        max_chars=column.max_chars,
    )


def escape_title(board: Board) -> Markup:
    """The title of a board as Markdown."""
    return escape_cell(board.title, MAX_TITLE_CHARS)


def page_slug(measure: str) -> str:
    """The file name of a measure's page, without suffix."""
    return make_slug(measure)


def link_measure(measure: str, text: str, mark: str | None) -> Markup:
    """`text` as a link to the page of `measure`, with the mark of its entry behind it."""
    marked = f" ({escape_cell(mark, MAX_MARK_CHARS)})" if mark else ""
    return Markup(f"[{escape_cell(text)}]({MEASURES}/{page_slug(measure)}.md){marked}")


def link_measures(leaderboard: Leaderboard, board: Board) -> FormatName:
    """Gives the name of a row of `board`: a measure as a link, a baseline in italics."""

    def name(score: Score) -> Markup:
        if score.kind == "baseline":
            return format_name(score)
        return link_measure(board.measure(score), score.name, leaderboard.mark([(board, score)]))

    return name


def linked_name_column(leaderboard: Leaderboard, board: Board) -> Column[Score]:
    """The column of names of the rows of `board`, as links."""
    return replace(NAME, text=link_measures(leaderboard, board))


def explain_marks(board: Board, axis: Literal["exact", "invariance", "speed"]) -> tuple[str, ...]:
    """The remark above submitted numbers; none above our own."""
    if board.entry is None:
        return ()
    if axis == "speed":
        return ("Submitted: seconds, gradients and memory are claims of the submitter that nobody can verify.",)
    found = board.entry.status.exact if axis == "exact" else board.entry.status.invariance
    what = "values of oracles" if axis == "exact" else "records with factors of change"
    return (f"Submitted: {found.agreed} of {found.claimed} {what} in this entry were recomputed and agreed.",)
