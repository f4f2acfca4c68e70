"""The page of one measure: its results on every board, its cost, and its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup
from matplotlib.figure import Figure

from sharpbench.leaderboard.board import BoardRow, Leaderboard
from sharpbench.leaderboard.pages.links import PLOTS, POPULATION, board_column, escape_title, page_slug
from sharpbench.leaderboard.pages.submissions import measure_section as submissions
from sharpbench.report.columns import NAME, SUMMARY
from sharpbench.report.cost_columns import ERROR, GRADIENTS, MEMORY, factor_columns
from sharpbench.report.escape import escape_cell
from sharpbench.report.markdown import MAX_REASONS, board_table
from sharpbench.report.page import Page, Picture, Section
from sharpbench.report.plots import Points, collect_points, draw_panels, drawable_text, format_tau_value

PANELS_PER_LINE, MAX_PANELS = 4, 24


def page(leaderboard: Leaderboard, measure: str) -> Page:
    """The results of `measure` on all boards, with any hyperparameters."""
    found = list(leaderboard.rows_of(measure))
    definition = f"Definition: [docs/measures/{measure}.md](../../docs/measures/{measure}.md). "
    links = (
        definition if leaderboard.is_documented(measure) else ""
    ) + "All measures: [the leaderboard](../README.md)."
    rows: dict[str, list[BoardRow]] = {}
    for board, score in found:
        rows.setdefault(score.label, []).append((board, score))
    marks = {label: mark for label, places in rows.items() if (mark := leaderboard.mark(places)) is not None}
    entries = tuple(f"{escape_cell(label)}: {escape_cell(mark, 20)}." for label, mark in sorted(marks.items()))
    submitted = submissions(leaderboard.submitted, measure)
    sections = [
        Section("", (links, *entries)),
        Section("Correlation with the gap", (_correlation_table(leaderboard, found), *_pictures(measure, found))),
        Section("Exactness, speed, invariance", (_cost_table(found),)),
        *([submitted] if submitted is not None else []),
        *_failures(found),
    ]
    return Page(escape_cell(measure), tuple(sections))


def _correlation_table(leaderboard: Leaderboard, found: Sequence[BoardRow]) -> Markup:
    def name(row: BoardRow) -> Markup:
        board, score = row
        mark = leaderboard.mark([row]) if board.entry is not None else None
        return Markup(f"{escape_cell(score.name)}{f' ({mark})' if mark else ''}")

    return board_table((POPULATION, replace(board_column(NAME), text=name), *map(board_column, SUMMARY)), found)


def _cost_table(found: Sequence[BoardRow]) -> Markup:
    """Without seconds, which depend on the machine: the page of speed has them."""
    factors = factor_columns(score for _, score in found)
    return board_table((POPULATION, *map(board_column, (NAME, ERROR, *factors, GRADIENTS, MEMORY))), found)


def _failures(found: Sequence[BoardRow]) -> tuple[Section, ...]:
    lines = [
        f"- {escape_title(board)}, {escape_cell(score.name)}, {each.count} {escape_cell(each.status)}: "
        f"{escape_cell(each.reason, 200)}"
        for board, score in found
        for each in score.failures
    ]
    if len(lines) > MAX_REASONS:
        lines = [*lines[:MAX_REASONS], f"- and {len(lines) - MAX_REASONS} more, in the records"]
    return (Section("Without a value", ("\n".join(lines),)),) if lines else ()


def _pictures(measure: str, found: Sequence[BoardRow]) -> tuple[Picture, ...]:
    drawn = [(board, collect_points(board.population, board.row(score))) for board, score in found]
    shown = [(board, points) for board, points in drawn if len(points.values)][:MAX_PANELS]
    titles = {id(points): board.origin for board, points in shown}

    def titled(points: Points) -> str:
        where = f"{drawable_text(titles[id(points)], 24)}, {drawable_text(points.model, 14)}"
        return f"{where}\n{drawable_text(points.label, 30)}: tau {format_tau_value(points.marginal)}"

    def draw() -> Figure:
        every = [points for _, points in shown]
        return draw_panels(
            [every[start : start + PANELS_PER_LINE] for start in range(0, len(every), PANELS_PER_LINE)], titled
        )

    caption = "Value against the generalization gap, one panel per population; hollow: excluded by the gate"
    return (Picture(f"../{PLOTS}/measure-{page_slug(measure)}", caption, draw),) if shown else ()
