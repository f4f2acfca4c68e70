"""The page of correlations: every number of the protocol for each board, as `sharpbench run` shows them."""

from __future__ import annotations

from matplotlib.figure import Figure

from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.pages.links import PLOTS, escape_title, link_measures
from sharpbench.report.markdown import describe_board, render_board
from sharpbench.report.page import Page, Picture, Section
from sharpbench.report.plots import collect_points, draw_overview

INTRODUCTION = (
    "How well each measure orders trained networks by their generalization gap (training accuracy - test accuracy), "
    "by every number of [the protocol](../docs/protocol.md). Each population has separate tables: the tau of one "
    "says nothing about another."
)
MAX_PANELS = 48
"""Panels of an overview; the first ones."""


def page(leaderboard: Leaderboard) -> Page:
    """One section per board, and how to read them."""
    sections = [Section("", (INTRODUCTION,)), *(_section(leaderboard, board) for board in leaderboard.boards)]
    reading = Section("How to read this", (render_board("reading").strip(),))
    return Page("Correlation with generalization", (*sections, reading))


def _section(leaderboard: Leaderboard, board: Board) -> Section:
    if not board.judged:
        count = len(board.population.networks)
        words = f"{count} network{'s' * (count != 1)}: too few for a correlation."
        return Section(escape_title(board), (words,))
    text = render_board("section", board=describe_board(list(board.scores), link_measures(leaderboard, board)))
    paragraphs = tuple(part.strip("\n") for part in text.split("\n\n") if part.strip())
    return Section(escape_title(board), (*paragraphs, *_pictures(board)))


def _pictures(board: Board) -> tuple[Picture, ...]:
    shown = [collect_points(board.population, row) for row in board.population.rows]
    shown = [points for points in shown if len(points.values)][:MAX_PANELS]

    def draw() -> Figure:
        return draw_overview(shown)

    caption = "Each measure against the gap; hollow: excluded by the gate"
    return (Picture(f"{PLOTS}/{board.slug}", caption, draw),) if shown else ()
