"""The page of invariance: by how much measures change when weights are rewritten and the function stays."""

from __future__ import annotations

from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.pages.links import explain_marks, link_measures
from sharpbench.report.escape import escape_cell, markdown_table
from sharpbench.report.format import KINDS, format_factor
from sharpbench.report.page import Page, Section

INTRODUCTION = (
    "A network's weights can be rewritten without changing its function: tensors rescaled against each other "
    "(*layer*), single units rescaled (*unit*), hidden units put in another order (*permutation*), queries and keys "
    "rotated (*attention-rotation*). A measure that changes then measures the way in which the function is written "
    "down, too.\n\n"
    "Each number is the largest factor by which the value changed under two random rewrites of that kind, in float64 "
    "and with equal random numbers, on a few networks of each population. 1: invariant to 1e-6; `sign`: the value "
    "changed its sign, or became 0; -: not looked into, or the network has no rewrite of that kind. Factors depend on "
    "how far the rewrites go (log-scales of size 1): compare within a column, and take them for large or small."
)


def page(leaderboard: Leaderboard) -> Page:
    """A section a board; the least changed first."""
    sections = (_section(leaderboard, board) for board in leaderboard.boards)
    return Page("Invariance", (Section("", (INTRODUCTION,)), *sections))


def _section(leaderboard: Leaderboard, board: Board) -> Section:
    title = escape_cell(board.title, 160)
    looked = [score for score in board.measured if score.invariance]
    present = {kind for score in looked for kind in score.invariance}
    kinds = [*(kind for kind in KINDS if kind in present), *sorted(present.difference(KINDS))]
    if not looked:
        return Section(title, ("No weights were rewritten.",))
    name = link_measures(leaderboard, board)
    changes = [[format_factor(score.invariance, kind) for kind in kinds] for score in looked]
    invariant = [sum(text == "1" for text in texts) for texts in changes]
    ordered = sorted(zip(invariant, looked, changes, strict=True), key=lambda each: (-each[0], each[1].name))
    lines = [[name(score), *texts] for _, score, texts in ordered]
    header = ["measure", *(f"{escape_cell(kind, 30)} ×" for kind in kinds)]
    return Section(
        title, (*explain_marks(board, "invariance"), markdown_table(header, lines, set(range(1, len(header)))))
    )
