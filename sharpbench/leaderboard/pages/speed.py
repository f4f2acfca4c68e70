"""The page of speed: the cost of each measure, and its error against its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.pages.links import PLOTS, escape_title, explain_marks, linked_name_column
from sharpbench.report.cost_columns import GRADIENTS, MEMORY, list_environments, seconds_columns
from sharpbench.report.escape import escape_cell
from sharpbench.report.markdown import assign_letters, board_table
from sharpbench.report.page import Block, Page, Picture, Section
from sharpbench.report.plots import drawable_text, pareto_front

INTRODUCTION = (
    "Medians of one standalone call on a fresh network, over the few networks that were timed. *gradients* are the "
    "seconds divided by those of one forward and backward pass over the same data in the same process; they can be "
    "compared between machines. Seconds cannot, so every environment has a separate column, named by its letter. "
    "*peak memory* is the growth of the process's peak during that call."
)
PICTURED = (
    "Error against cost, of the measures that were timed and compared with their oracle. No other measure is both "
    "cheaper and more exact than one on the line. An error of 0 is drawn at the lower edge. Different measures are "
    "different quantities: the picture shows what a value of each costs, not that one can replace another."
)
MIN_DRAWN_ERROR = 1e-17
"""Smaller errors, also 0, are drawn here."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The cost of one measure on a board, in gradients, and its largest relative error."""

    name: str
    gradients: float
    error: float


def page(leaderboard: Leaderboard) -> Page:
    """One section per board, and the environments by their letters."""
    letters = assign_letters(record for board in leaderboard.boards for record in board.records)
    sections = (_section(leaderboard, board, letters) for board in leaderboard.boards)
    named = "\n".join(f"- {letter}: {escape_cell(place, 400)}" for place, letter in letters.items()) or "Not recorded."
    return Page("Speed", (Section("", (INTRODUCTION,)), *sections, Section("Environments", (named,))))


def list_offers(board: Board) -> tuple[Offer, ...]:
    """The measures that were both timed without other work and checked, the cheapest first."""
    found = [
        Offer(score.name, score.gradients, score.exactness.largest)
        for score in board.measured
        if score.gradients is not None and score.exactness is not None and not score.only_contended
    ]
    return tuple(sorted(found, key=lambda each: (each.gradients, each.error, each.name)))


def _section(leaderboard: Leaderboard, board: Board, letters: dict[str, str]) -> Section:
    title = escape_title(board)
    timed = [score for score in board.measured if score.timings]
    if not timed:
        return Section(title, ("Nothing was timed.",))
    seconds = seconds_columns(list_environments(timed), letters)
    columns = (linked_name_column(leaderboard, board), GRADIENTS, *seconds, MEMORY)
    ordered = sorted(timed, key=lambda each: (each.gradients is None, each.gradients or 0.0, each.name))
    return Section(title, (*explain_marks(board, "speed"), board_table(columns, ordered), *_picture(board)))


def _picture(board: Board) -> tuple[Block, ...]:
    found = list_offers(board)

    def draw() -> Figure:
        figure = Figure(figsize=(7.2, 4.2), dpi=120, layout="constrained")
        _draw_offers(figure, figure.add_subplot(), found)
        return figure

    if len(found) < 2:
        return ()
    return PICTURED, Picture(f"{PLOTS}/{board.slug}--cost", "Relative error against cost in gradients", draw)


def _draw_offers(figure: Figure, axes: Axes, found: Sequence[Offer]) -> None:
    """Numbered marks, filled on the front, with a legend that names them."""
    line = pareto_front(found, lambda each: (each.gradients, each.error))
    best = set(line)
    axes.step(
        [each.gradients for each in line],
        [max(each.error, MIN_DRAWN_ERROR) for each in line],
        where="post",
        color="0.7",
        zorder=1,
    )
    for index, each in enumerate(found, start=1):
        colour = "#31688e" if each in best else "white"
        place = each.gradients, max(each.error, MIN_DRAWN_ERROR)
        label = f"{index}  {drawable_text(each.name, 40)}"
        axes.scatter(*place, s=110, color=colour, edgecolors="#31688e", zorder=2, label=label)
        ink = "white" if each in best else "#31688e"
        axes.annotate(str(index), place, ha="center", va="center", fontsize=6.5, color=ink, zorder=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("cost in gradients")
    axes.set_ylabel("largest relative error")
    axes.grid(visible=True, color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    legend = figure.legend(loc="outside right upper", fontsize=7, frameon=False, handlelength=0, handletextpad=0)
    for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True):
        text.set_parse_math(False)
        if handle is not None:
            handle.set_visible(False)
