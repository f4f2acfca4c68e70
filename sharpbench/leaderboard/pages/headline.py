"""The first page: one table with a row a measure, over all boards."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sharpbench.analysis.scores import BASELINES, Score
from sharpbench.leaderboard.board import Board, Leaderboard, count_networks
from sharpbench.leaderboard.entries import NOTHING
from sharpbench.leaderboard.pages.links import measure_link
from sharpbench.leaderboard.pages.submissions import PAGE as ENTRIES
from sharpbench.report.escape import escape_cell, markdown_table
from sharpbench.report.format import (
    KINDS,
    MISSING,
    format_correlation,
    format_error,
    format_factor,
    format_number,
    format_share,
    plain_text,
)
from sharpbench.report.page import Page, Section

BOARDS_SHOWN = 10
"""Columns of boards; the pages hold all."""
AXES = (
    "[Correlation](correlation.md) with generalization, every number and its interval · [exactness](exactness.md) · "
    "[speed](speed.md) · [invariance](invariance.md) · [how to read all this](../docs/leaderboard.md) · "
    "[the protocol](../docs/protocol.md)"
)
READING = (
    "A column a population: Kendall's tau of the measure with the generalization gap there, **within cells** of fixed "
    "hyperparameters where its cells are large enough for an interval, else over all networks (*marginal*, which "
    "flatters); in brackets the rank, shared where measures cannot be told apart. Populations are not averaged: a "
    "measure that orders one need not order another. Rows stand in the order of the median of these taus, which is an "
    "order and no score. A dash: not measured, or not on every network that passed the gate (then unranked).\n\n"
    "*worst sign error*: the worst single change of a hyperparameter in any population, 0.5 is chance. *relative "
    "error*: the largest against the measure's oracle anywhere. *gradients*: the range of the cost, in forward and "
    "backward passes over the data. *unchanged by*: rewrites of the same function that changed the value on none of "
    "the networks tried. *Italic rows* are baselines, which know nothing of sharpness, and which a measure should beat."
)
SENT = (
    "Columns of *submitted* populations are what others sent, with the state of each number that nobody has verified; "
    "they enter neither the order of rows nor the last four columns of a measure that we measured. Measures that only "
    "submissions have stand below ours, with their state behind the name."
)


@dataclass(frozen=True, slots=True)
class HeadlineRow:
    """A row of the headline table: all scores of one name, by the number of their board.

    mark: a word about its entry, where there is one. counted: the scores that enter its summary. own: whether any is
    of our own results.
    """

    name: str
    measure: str | None
    scores: dict[int, Score]
    mark: str | None
    counted: list[Score]
    own: bool

    @property
    def median(self) -> float:
        """The median over boards of the tau that ranks there; below all others where there is none."""
        taus = [value for score in self.counted if (value := ranking_tau(score)) is not None]
        return statistics.median(taus) if taus else -2.0


@dataclass(frozen=True, slots=True)
class Summary:
    """The worst sign error, the largest relative error, all costs in gradients, and the rewrites that changed nothing.

    tried: whether weights were rewritten at all.
    """

    worst: float | None
    error: float | None
    costs: tuple[float, ...]
    unchanged: tuple[str, ...]
    tried: bool

    @property
    def texts(self) -> list[str]:
        """As readers see it, in the order of the columns."""
        ends = list(dict.fromkeys(format_number(cost) for cost in (*self.costs[:1], *self.costs[-1:])))
        return [
            format_share(self.worst),
            MISSING if self.error is None else format_error(self.error),
            " to ".join(ends) or MISSING,
            ", ".join(self.unchanged) or ("nothing" if self.tried else MISSING),
        ]


def ranking_tau(score: Score) -> float | None:
    """The tau by which the board of `score` ranks; None for partial rows, which speak of other networks."""
    if score.partial:
        return None
    return (score.within if score.ranked_by == "within" else score.marginal).value


def page(leaderboard: Leaderboard) -> Page:
    """The headline table, what its columns are, and where the rest stands."""
    sent = leaderboard.submitted != NOTHING
    axes = AXES + (f" · [submissions]({ENTRIES})" if sent else "")
    found = [Section("", (axes, headline(leaderboard), READING + (f"\n\n{SENT}" if sent else "")))]
    return Page("Leaderboard of sharpness measures", (*found, Section("Populations", (_populations(leaderboard),))))


def lines(leaderboard: Leaderboard) -> list[HeadlineRow]:
    """Measures by falling median, those that only submissions have behind ours, then the baselines in their order."""
    found: dict[tuple[str, str | None], dict[int, Score]] = {}
    for index, board in enumerate(leaderboard.boards):
        for score in board.scores:
            measure = None if score.kind == "baseline" else board.measure(score)
            found.setdefault((score.name, measure), {})[index] = score
    rows = []
    for (name, measure), scores in found.items():
        places = [(leaderboard.boards[index], score) for index, score in scores.items()]
        mark = None if measure is None else leaderboard.mark(places)
        rows.append(
            HeadlineRow(name, measure, scores, mark, count_networks(places), any(b.entry is None for b, _ in places))
        )
    place = {name: index for index, name in enumerate(BASELINES)}

    def order(row: HeadlineRow) -> tuple[int, int, float, str, str]:
        kind = 2 if row.measure is None else 0 if row.own else 1
        return kind, place[row.name] if row.measure is None else 0, -row.median, row.name, row.measure or ""

    return sorted(rows, key=order)


def headline(leaderboard: Leaderboard) -> Markup:
    """The table itself."""
    shown = judged(leaderboard)[:BOARDS_SHOWN]
    places = [escape_cell(heading(leaderboard.boards[index]), 120) for index in shown]
    header = ["measure", *places, "worst sign error", "relative error", "gradients", "unchanged by"]
    texts = [
        [
            f"*{escape_cell(row.name)}*" if row.measure is None else measure_link(row.measure, row.name, row.mark),
            *(standing_text(leaderboard, index, row.scores.get(index)) for index in shown),
            *summary(row.counted).texts,
        ]
        for row in lines(leaderboard)
    ]
    return markdown_table(header, texts, set(range(1, len(header) - 1)))


def judged(leaderboard: Leaderboard) -> list[int]:
    """The numbers of the boards that have a column."""
    return [index for index, board in enumerate(leaderboard.boards) if board.judged]


def heading(board: Board) -> str:
    """Model, collection, and by which tau the board ranks, as they came: to be escaped."""
    by = "" if board.scores[0].ranked_by == "within" else " (marginal)"
    return f"{plain_text(board.population.model, 30)}, {board.origin}{by}"


def standing_text(leaderboard: Leaderboard, index: int, score: Score | None) -> str:
    """`tau_and_rank`, with the state of what an entry says and nobody has verified."""
    text, board = tau_and_rank(score), leaderboard.boards[index]
    if score is None or board.entry is None or score.kind == "baseline" or text == MISSING:
        return text
    state = board.entry.state(score.label, board.name)
    return text if state == "verified" else f"{text} {state}"


def tau_and_rank(score: Score | None) -> str:
    """The tau by which the board ranks, and the rank in brackets."""
    value = None if score is None else ranking_tau(score)
    if score is None or value is None:
        return MISSING
    return format_correlation(value) + (f" ({score.rank})" if score.rank is not None else "")


def summary(scores: Sequence[Score]) -> Summary:
    """What all boards together say of one row."""
    signs = [score.judgement.signs.worst for score in scores if score.judgement.signs.worst is not None]
    wrong = [score.exactness.largest for score in scores if score.exactness is not None]
    costs = [score.gradients for score in scores if score.gradients is not None]
    changes = {kind: {format_factor(score.invariance, kind) for score in scores} - {MISSING} for kind in KINDS}
    unchanged = tuple(kind for kind in KINDS if changes[kind] == {"1"})
    tried = any(score.invariance for score in scores)
    return Summary(max(signs, default=None), max(wrong, default=None), tuple(sorted(costs)), unchanged, tried)


def _populations(leaderboard: Leaderboard) -> str:
    """A line a board, and what was left out."""
    found = [_population(board) for board in leaderboard.boards]
    more = len(judged(leaderboard)) - BOARDS_SHOWN
    if more > 0:
        found.append(f"- The table has a column for the first {BOARDS_SHOWN}; {more} more are on the other pages.")
    found += [
        f"- {escape_cell(name)}: {count} records of single networks (`data.leaderboard` false) are left out"
        for name, count in sorted(leaderboard.left_out.items())
    ]
    return "\n".join(found)


def _population(board: Board) -> str:
    networks, counted = len(board.population.networks), len(board.population.counted)
    tau = "tau within cells" if board.scores[0].ranked_by == "within" else "tau over all networks (marginal)"
    if any(score.rank is not None for score in board.measured):
        said = f"ranked by {tau}"
    else:
        said = f"{tau}, not ranked: without intervals" if board.judged else "too few networks for a correlation"
    return (
        f"- {escape_cell(board.title, 160)}: {networks} network{'s' if networks != 1 else ''}, "
        f"{networks - counted} excluded "
        f"by the gate; {len(board.measured)} measures; {said}"
    )
