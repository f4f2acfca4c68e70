"""The page of invariance: factors by which measures change under rewrites of the same function."""

from __future__ import annotations

from sharpbench.analysis.scores import Score
from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.pages.links import escape_title, explain_marks, linked_name_column
from sharpbench.report.cost_columns import factor_columns
from sharpbench.report.markdown import board_table
from sharpbench.report.page import Page, Section

INTRODUCTION = (
    "A network's weights can be rewritten without changing its function: tensors rescaled against each other "
    "(*layer*), single units rescaled (*unit*), hidden units put in another order (*permutation*), queries and keys "
    "rotated (*attention-rotation*), invertible matrices put between queries and keys and between values and output of "
    "attention (*attention-gl*). A measure that changes also measures how the function is written down.\n\n"
    "Each number is the largest factor by which the value changed under two random rewrites of that kind, in "
    "float64 and with equal random numbers, on a few networks of each population. 1: invariant to 1e-6. `sign`: the "
    "value changed its sign, or became 0. -: not tested, or the network has no rewrite of that kind. Factors depend "
    "on how far the rewrites go (log-scales of size 1), so compare them within a column, and only as large or "
    "small."
)


def page(leaderboard: Leaderboard) -> Page:
    """One section per board; measures that change least come first."""
    sections = (_section(leaderboard, board) for board in leaderboard.boards)
    return Page("Invariance", (Section("", (INTRODUCTION,)), *sections))


def _section(leaderboard: Leaderboard, board: Board) -> Section:
    title = escape_title(board)
    rewritten = [score for score in board.measured if score.invariance]
    if not rewritten:
        return Section(title, ("No weights were rewritten.",))
    factors = factor_columns(rewritten, unknown=True)

    def order(score: Score) -> tuple[int, str]:
        return -sum(column.text(score) == "1" for column in factors), score.name

    columns = (linked_name_column(leaderboard, board), *factors)
    return Section(title, (*explain_marks(board, "invariance"), board_table(columns, sorted(rewritten, key=order))))
