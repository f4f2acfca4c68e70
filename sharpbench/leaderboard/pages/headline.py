"""The first page: one table over all boards, one row per measure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sharpbench.analysis.scores import BASELINES, Score
from sharpbench.core.measure import REWRITE_KINDS
from sharpbench.leaderboard.board import Board, Leaderboard, select_own
from sharpbench.leaderboard.entries import NO_SUBMISSIONS
from sharpbench.leaderboard.pages.links import escape_title, link_measure
from sharpbench.leaderboard.pages.score import score_section
from sharpbench.leaderboard.pages.submissions import PAGE_NAME as ENTRIES
from sharpbench.report.columns import Column
from sharpbench.report.escape import escape_cell
from sharpbench.report.format import (
    MISSING,
    format_correlation,
    format_error,
    format_factor,
    format_number,
    format_share,
    plain_text,
)
from sharpbench.report.markdown import board_table
from sharpbench.report.page import Page, Section

MAX_BOARD_COLUMNS = 10
"""Columns of boards; the pages hold all."""
AXES = (
    "[Correlation](correlation.md) with generalization, every number and its interval · [exactness](exactness.md) · "
    "[speed](speed.md) · [invariance](invariance.md) · [outcomes](outcomes.md) · [which measure?](which.md) · "
    "[how to read all this](../docs/leaderboard.md) · [the protocol](../docs/protocol.md)"
)
READING = (
    "Each population has a column. It shows Kendall's tau of the measure with the generalization gap, **within "
    "cells** of fixed hyperparameters where the cells are large enough for an interval, else over all networks "
    "(*marginal*, which flatters). The rank is in brackets: one plus the number of measures "
    "that are significantly better. "
    "A measure that orders one population need not order another. Rows are sorted by the median of these taus. A dash: "
    "not measured, or not on every network that passed the gate (then unranked).\n\n"
    "*worst sign error*: the worst single change of a hyperparameter in any population; 0.5 is chance. *relative "
    "error*: the largest against the measure's oracle anywhere. *gradients*: the range of the cost, in forward and "
    "backward passes over the data. *unchanged by*: rewrites of the same function that changed the value on none of "
    "the tested networks. *Italic rows* are baselines, which know nothing of sharpness; a measure should beat them."
)
SENT = (
    "Columns of *submitted* populations are results of others, with the state of each number. *verified 22 of 24*: 22 "
    "of 24 values were recomputed here and agree, and the number is computed from these 22. "
    "They count neither for the order of rows nor for the last four columns of a measure that we measured. Measures "
    "that only submissions have come below ours, with their state behind the name."
)


@dataclass(frozen=True, slots=True)
class Summary:
    """What all boards together say of one row.

    Args:
        worst: The worst sign error.
        error: The largest relative error.
        costs: All costs in gradients, in order.
        unchanged: The kinds of rewrites that changed nothing.
        rewritten: Whether weights were rewritten at all.
    """

    worst: float | None
    error: float | None
    costs: tuple[float, ...]
    unchanged: tuple[str, ...]
    rewritten: bool


@dataclass(frozen=True, slots=True)
class HeadlineRow:
    """A row of the headline table: all scores of one name.

    Args:
        scores: By the number of their board.
        mark: A word about its entry, where there is one.
        median: The median over boards of the tau that ranks there; below all others where there is none.
        summary: Over the scores that count.
        own: Whether any score is of our own results.
    """

    name: str
    measure: str | None
    scores: dict[int, Score]
    mark: str | None
    median: float
    summary: Summary
    own: bool


def ranking_tau(score: Score | None) -> float | None:
    """The tau by which the board of `score` ranks; None for partial rows, which speak of other networks."""
    if score is None or score.partial:
        return None
    return (score.within if score.ranked_by == "within" else score.marginal).value


def _format_costs(row: HeadlineRow) -> str:
    costs = row.summary.costs
    return " to ".join(dict.fromkeys(map(format_number, (*costs[:1], *costs[-1:])))) or MISSING


SUMMARY_COLUMNS: tuple[Column[HeadlineRow], ...] = (
    Column(
        heading="worst sign error",
        text=lambda row: format_share(row.summary.worst),
        value=lambda row: row.summary.worst,
        help="the worst single change of a hyperparameter anywhere; 0.5 is chance",
    ),
    Column(
        heading="relative error",
        text=lambda row: MISSING if row.summary.error is None else format_error(row.summary.error),
        value=lambda row: row.summary.error,
        help="the largest against the oracle anywhere",
    ),
    Column(
        heading="gradients",
        text=_format_costs,
        value=lambda row: row.summary.costs[0] if row.summary.costs else None,
        help="cost, in forward and backward passes over the data",
    ),
    Column(
        heading="unchanged by",
        text=lambda row: ", ".join(row.summary.unchanged) or ("nothing" if row.summary.rewritten else MISSING),
        help="rewrites of the same function that changed nothing",
        number=False,
    ),
)


def tau_column(leaderboard: Leaderboard, index: int) -> Column[HeadlineRow]:
    """The column of one board: the tau by which it ranks, and the rank."""
    board = leaderboard.boards[index]

    def text(row: HeadlineRow) -> str:
        return _format_rank(board, row.scores.get(index))

    return Column(
        heading=_board_heading(board),
        text=text,
        value=lambda row: ranking_tau(row.scores.get(index)),
        help=f"tau by which {board.title} ranks, and the rank",
        descending=True,
        heat=True,
    )


def page(leaderboard: Leaderboard) -> Page:
    """The headline scores, the table of all boards, the meaning of their columns, and links to the other pages."""
    sent = leaderboard.submitted != NO_SUBMISSIONS
    axes = AXES + (f" · [submissions]({ENTRIES})" if sent else "")
    table = (headline_table(leaderboard), READING + (f"\n\n{SENT}" if sent else ""))
    sections = (
        Section("", (axes,)),
        score_section(leaderboard),
        Section("Tau with the gap by population", table),
        Section("Populations", (_populations(leaderboard),)),
    )
    return Page("Leaderboard of sharpness measures", sections)


def headline_rows(leaderboard: Leaderboard) -> list[HeadlineRow]:
    """Measures by falling median, those that only submissions have behind ours, then the baselines in their order."""
    found: dict[tuple[str, str | None], dict[int, Score]] = {}
    for index, board in enumerate(leaderboard.boards):
        for score in board.scores:
            measure = None if score.kind == "baseline" else board.measure(score)
            found.setdefault((score.name, measure), {})[index] = score
    rows = [_headline_row(leaderboard, name, measure, scores) for (name, measure), scores in found.items()]
    place = {name: index for index, name in enumerate(BASELINES)}

    def order(row: HeadlineRow) -> tuple[int, int, float, str, str]:
        kind = 2 if row.measure is None else 0 if row.own else 1
        return kind, place[row.name] if row.measure is None else 0, -row.median, row.name, row.measure or ""

    return sorted(rows, key=order)


def _headline_row(leaderboard: Leaderboard, name: str, measure: str | None, scores: dict[int, Score]) -> HeadlineRow:
    places = [(leaderboard.boards[index], score) for index, score in scores.items()]
    mark = None if measure is None else leaderboard.mark(places)
    counted = select_own(places)
    taus = [value for score in counted if (value := ranking_tau(score)) is not None]
    median = statistics.median(taus) if taus else -2.0
    own = any(board.entry is None for board, _ in places)
    return HeadlineRow(name, measure, scores, mark, median, summarize(counted), own)


def headline_table(leaderboard: Leaderboard) -> Markup:
    """The table itself."""
    boards = [tau_column(leaderboard, index) for index in judged_boards(leaderboard)[:MAX_BOARD_COLUMNS]]
    name: Column[HeadlineRow] = Column(heading="measure", text=_name, number=False)
    return board_table((name, *boards, *SUMMARY_COLUMNS), headline_rows(leaderboard))


def _name(row: HeadlineRow) -> Markup:
    if row.measure is None:
        return Markup(f"*{escape_cell(row.name)}*")
    return link_measure(row.measure, row.name, row.mark)


def judged_boards(leaderboard: Leaderboard) -> list[int]:
    """The numbers of the boards that have a column."""
    return [index for index, board in enumerate(leaderboard.boards) if board.judged]


def _board_heading(board: Board) -> str:
    """Model, collection, and by which tau the board ranks, not escaped."""
    by = "" if board.scores[0].ranked_by == "within" else " (marginal)"
    return f"{plain_text(board.population.model, 30)}, {board.origin}{by}"


def _format_rank(board: Board, score: Score | None) -> str:
    """The tau by which the board ranks, the rank in brackets, and the state of a submitted number with its share."""
    value = ranking_tau(score)
    if score is None or value is None:
        return MISSING
    text = format_correlation(value) + (f" ({score.rank})" if score.rank is not None else "")
    if board.entry is None or score.kind == "baseline":
        return text
    return f"{text} {board.entry.describe_row(board.row_key(score))}"


def summarize(scores: Sequence[Score]) -> Summary:
    """The summary of one row over the boards of its scores."""
    signs = [score.correlations.signs.worst for score in scores if score.correlations.signs.worst is not None]
    errors = [score.exactness.largest for score in scores if score.exactness is not None]
    costs = [score.gradients for score in scores if score.gradients is not None and not score.only_contended]
    changes = {kind: {format_factor(score.invariance, kind) for score in scores} - {MISSING} for kind in REWRITE_KINDS}
    unchanged = tuple(kind for kind in REWRITE_KINDS if changes[kind] == {"1"})
    rewritten = any(score.invariance for score in scores)
    return Summary(max(signs, default=None), max(errors, default=None), tuple(sorted(costs)), unchanged, rewritten)


def _populations(leaderboard: Leaderboard) -> str:
    """One line per board, and the records that were left out."""
    found = [_population(board) for board in leaderboard.boards]
    more = len(judged_boards(leaderboard)) - MAX_BOARD_COLUMNS
    if more > 0:
        found.append(f"- The table has {MAX_BOARD_COLUMNS} columns of populations; {more} more are on the other pages.")
    found += [
        f"- {escape_cell(name)}: {count} records of single networks (`data.leaderboard` false) are left out"
        for name, count in sorted(leaderboard.left_out.items())
    ]
    return "\n".join(found)


def _population(board: Board) -> str:
    networks, counted = len(board.population.networks), len(board.population.counted)
    tau = "tau within cells" if board.scores[0].ranked_by == "within" else "tau over all networks (marginal)"
    if any(score.rank is not None for score in board.measured):
        ranking = f"ranked by {tau}"
    else:
        ranking = f"{tau}, not ranked: without intervals" if board.judged else "too few networks for a correlation"
    return (
        f"- {escape_title(board)}: {networks} network{'s' if networks != 1 else ''}, "
        f"{networks - counted} excluded "
        f"by the gate; {len(board.measured)} measures; {ranking}"
    )
