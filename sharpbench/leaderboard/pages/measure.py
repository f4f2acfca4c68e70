"""The page of one measure: where it stands on every board, what it costs, and its pictures."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.figure import Figure

from sharpbench.analysis.scores import Score
from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.pages.links import PLOTS, page_of
from sharpbench.leaderboard.pages.submissions import section as submissions
from sharpbench.report.escape import escape_cell, markdown_table
from sharpbench.report.format import (
    KINDS,
    format_factor,
    format_memory,
    format_number,
    format_share,
    information_text,
    rank_text,
    tau_text,
)
from sharpbench.report.markdown import REASONS_SHOWN, errors
from sharpbench.report.page import Page, Picture, Section
from sharpbench.report.plots import Points, drawable, known, panels, points_of

COLUMNS, PANELS = 4, 24
Found = Sequence[tuple[Board, Score]]


def page(leaderboard: Leaderboard, measure: str) -> Page:
    """What all boards say of `measure`, under whatever hyperparameters."""
    found = list(leaderboard.of(measure))
    told = [f"What it is: [docs/measures/{measure}.md](../../docs/measures/{measure}.md). "]
    words = (told[0] if measure in leaderboard.documented else "") + "All measures: [the leaderboard](../README.md)."
    rows: dict[str, list[tuple[Board, Score]]] = {}
    for board, score in found:
        rows.setdefault(score.label, []).append((board, score))
    marks = {label: mark for label, places in rows.items() if (mark := leaderboard.mark(places)) is not None}
    entries = tuple(f"{escape_cell(label)}: {escape_cell(mark, 20)}." for label, mark in sorted(marks.items()))
    told_by_entries = submissions(leaderboard.submitted, measure)
    sections = [
        Section("", (words, *entries)),
        Section("Correlation with the gap", (_standing(leaderboard, found), *_pictures(measure, found))),
        Section("Exactness, speed, invariance", (_costs(found),)),
        *([told_by_entries] if told_by_entries is not None else []),
        *_failures(found),
    ]
    return Page(escape_cell(measure), tuple(sections))


def _standing(leaderboard: Leaderboard, found: Found) -> Markup:
    header = ["population", "measure", "rank", "n", "tau", "tau within cells", "Psi", "information", "worst sign error"]
    lines = []
    for board, score in found:
        judged = score.judgement
        taus = (score.marginal, score.within, judged.granulated.overall)
        numbers = [*map(tau_text, taus), information_text(judged.information), format_share(judged.signs.worst)]
        mark = leaderboard.mark([(board, score)]) if board.entry is not None else None
        names = [str(escape_cell(board.title, 160)), f"{escape_cell(score.name)}{f' ({mark})' if mark else ''}"]
        lines.append(
            [*names, "partial" if score.partial else rank_text(score), str(score.networks), *map(_cell, numbers)]
        )
    return markdown_table(header, lines, set(range(2, len(header))))


def _costs(found: Found) -> Markup:
    """Without seconds, which are the machine's: those stand on the page of speed."""
    kinds = [kind for kind in KINDS if any(kind in score.invariance for _, score in found)]
    header = ["population", "measure", "relative error", *(f"{kind} ×" for kind in kinds), "gradients", "peak memory"]
    lines = [
        [
            str(escape_cell(board.title, 160)),
            str(escape_cell(score.name)),
            errors(score),
            *(format_factor(score.invariance, kind) for kind in kinds),
            format_number(score.gradients),
            format_memory(score.peak_bytes),
        ]
        for board, score in found
    ]
    return markdown_table(header, lines, set(range(2, len(header))))


def _failures(found: Found) -> tuple[Section, ...]:
    lines = [
        f"- {escape_cell(board.title, 160)}, {escape_cell(score.name)}, {each.count} {escape_cell(each.status)}: "
        f"{escape_cell(each.reason, 200)}"
        for board, score in found
        for each in score.failures
    ]
    if len(lines) > REASONS_SHOWN:
        lines = [*lines[:REASONS_SHOWN], f"- and {len(lines) - REASONS_SHOWN} more, in the records"]
    return (Section("Without a value", ("\n".join(lines),)),) if lines else ()


def _pictures(measure: str, found: Found) -> tuple[Picture, ...]:
    drawn = [(board, points_of(board.population, board.row(score))) for board, score in found]
    shown = [(board, points) for board, points in drawn if len(points.values)][:PANELS]
    titles = {id(points): board.origin for board, points in shown}

    def titled(points: Points) -> str:
        where = f"{drawable(titles[id(points)], 24)}, {drawable(points.model, 14)}"
        return f"{where}\n{drawable(points.label, 30)}: tau {known(points.marginal)}"

    def draw() -> Figure:
        every = [points for _, points in shown]
        return panels([every[start : start + COLUMNS] for start in range(0, len(every), COLUMNS)], titled)

    caption = "Value against the generalization gap, a panel a population; hollow: excluded by the gate"
    return (Picture(f"../{PLOTS}/measure-{page_of(measure)}", caption, draw),) if shown else ()


def _cell(text: str) -> str:
    return str(escape_cell(text))
