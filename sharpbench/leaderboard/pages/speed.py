"""The page of speed: what a value costs, and what error it has for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.pages.links import PLOTS, explain_marks, link_measures
from sharpbench.report.escape import escape_cell, markdown_table
from sharpbench.report.format import format_memory, format_number
from sharpbench.report.markdown import letters_of
from sharpbench.report.page import Block, Page, Picture, Section
from sharpbench.report.plots import drawable

INTRODUCTION = (
    "Medians of one standalone call on a fresh network, on the few networks that were timed. *gradients* are the "
    "seconds over those of one forward and backward pass over the same data, in the same process: they travel between "
    "machines. Seconds do not, and every environment has a column of its own, named by its letter; a number in one "
    "says nothing about a number in another. *peak memory* is the growth of the process's peak during that call."
)
PICTURED = (
    "Error against cost, of what was timed and compared with its oracle; nothing on the line is beaten in both. An "
    "error of 0 is drawn at the lower edge. Different measures are different quantities: the picture says what a value "
    "of each costs, not that one replaces the other."
)
FLOOR = 1e-17
"""Where an error of 0 is drawn."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What one measure costs on a board, in gradients, and its largest relative error."""

    name: str
    gradients: float
    error: float


def page(leaderboard: Leaderboard) -> Page:
    """A section a board, and what the letters of the environments stand for."""
    letters = letters_of(record for board in leaderboard.boards for record in board.records)
    sections = (_section(leaderboard, board, letters) for board in leaderboard.boards)
    named = "\n".join(f"- {letter}: {escape_cell(place, 400)}" for place, letter in letters.items()) or "Not recorded."
    return Page("Speed", (Section("", (INTRODUCTION,)), *sections, Section("Environments", (named,))))


def offers(board: Board) -> tuple[Offer, ...]:
    """The measures that were both timed and checked, cheapest first."""
    found = [
        Offer(score.name, score.gradients, score.exactness.largest)
        for score in board.measured
        if score.gradients is not None and score.exactness is not None
    ]
    return tuple(sorted(found, key=lambda each: (each.gradients, each.error, each.name)))


def pareto_offers(found: Sequence[Offer]) -> tuple[Offer, ...]:
    """Those of `found`, cheapest first, than which nothing is cheaper and at most as wrong."""
    best: list[Offer] = []
    for each in found:
        if not best or each.error < best[-1].error:
            best.append(each)
    return tuple(best)


def _section(leaderboard: Leaderboard, board: Board, letters: dict[str, str]) -> Section:
    title = escape_cell(board.title, 160)
    timed = [score for score in board.measured if score.timings]
    if not timed:
        return Section(title, ("Nothing was timed.",))
    name = link_measures(leaderboard, board)
    places = sorted({timing.environment for score in timed for timing in score.timings})
    header = ["measure", "gradients", *(f"seconds {letters.get(place, '')}".strip() for place in places), "peak memory"]
    lines = []
    for score in sorted(timed, key=lambda each: (each.gradients is None, each.gradients or 0.0, each.name)):
        seconds = {timing.environment: timing.seconds for timing in score.timings}
        shown = [format_number(seconds.get(place)) for place in places]
        lines.append([name(score), format_number(score.gradients), *shown, format_memory(score.peak_bytes)])
    rows = markdown_table(header, lines, set(range(1, len(header))))
    return Section(title, (*explain_marks(board, "speed"), rows, *_picture(board)))


def _picture(board: Board) -> tuple[Block, ...]:
    found = offers(board)

    def draw() -> Figure:
        figure = Figure(figsize=(7.2, 4.2), dpi=120, layout="constrained")
        _pareto(figure, figure.add_subplot(), found)
        return figure

    if len(found) < 2:
        return ()
    return PICTURED, Picture(f"{PLOTS}/{board.slug}--cost", "Relative error against cost in gradients", draw)


def _pareto(figure: Figure, axes: Axes, found: Sequence[Offer]) -> None:
    """Numbered marks, filled on the front, with a legend that names them."""
    best = set(pareto_offers(found))
    line = [each for each in found if each in best]
    axes.step(
        [each.gradients for each in line],
        [max(each.error, FLOOR) for each in line],
        where="post",
        color="0.7",
        zorder=1,
    )
    for index, each in enumerate(found, start=1):
        colour = "#31688e" if each in best else "white"
        place = each.gradients, max(each.error, FLOOR)
        label = f"{index}  {drawable(each.name, 40)}"
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
