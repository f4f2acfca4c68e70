"""The headline score on the first page, and the page of measures by outcome."""

from __future__ import annotations

from markupsafe import Markup
from matplotlib.figure import Figure

from sharpbench.analysis.headline import HeadlineScore, JudgedPopulation
from sharpbench.analysis.statistics import Tau
from sharpbench.leaderboard.board import Leaderboard
from sharpbench.leaderboard.pages.links import PLOTS, escape_title, link_measure
from sharpbench.report.escape import escape_cell, markdown_table
from sharpbench.report.format import MISSING, format_correlation
from sharpbench.report.headline_plots import MAX_COLUMNS, draw_heat, draw_scores, list_columns
from sharpbench.report.page import Page, Picture, Section

PAGE_NAME = "outcomes.md"
BASELINE_FAMILIES = ("norm", "reference")
"""Families of measures that know nothing of sharpness."""
MAX_REASON_CHARS = 160
MEANING = (
    "**The headline score** of a measure is its mean Psi over populations and outcomes, in [-1, 1]: of two networks "
    "that differ in one hyperparameter, how reliably has the one with the larger value the worse outcome? 0 is chance. "
    "Each population has the same weight, and so has each family of outcomes within it. Populations in which the label "
    "noise varies do not enter, as nobody chooses label noise, nor do those of few measures. The rank is one plus the "
    "number of scores that are significantly higher, and never better than that of a higher score; the bars of the "
    "picture show which scores cannot be told apart, also of different ranks. *Italic rows* are baselines, which know "
    "nothing of sharpness. A measure that lacks a value on one of these populations has no score; the last column says "
    "why. "
    "[Definition and reasons](../docs/protocol.md#headline-score); Psi by outcome: [outcomes](outcomes.md)."
)
OUTCOMES = (
    "Psi of each measure with each outcome: of two networks that differ in one hyperparameter, how reliably has the "
    "one with the larger value the worse outcome? A star marks a Psi whose 95 % interval does not hold 0; intervals "
    "are for one number each. The outcomes are those of [the protocol](../docs/protocol.md#outcomes) that the records "
    "of a population state. Rows are in the order of the [headline score](README.md); baselines are in italics."
)
HEAT = "Psi by outcome; the numbers above are the populations in the order of this page, grey: no value"
INTERVALS = (
    "Headline scores with 95 % intervals; squares are baselines, filled circles have an interval above 0, and bars "
    "at the right join scores that the paired comparisons cannot tell apart"
)


def baseline_names(leaderboard: Leaderboard) -> frozenset[str]:
    """The rows of the headline that know nothing of sharpness: covariates of the training, norms and references."""
    names = {score.name for score in leaderboard.headline.scores if score.kind == "baseline"}
    for board in leaderboard.own_boards:
        for score in board.measured:
            family = leaderboard.catalog.get(board.measure(score), {}).get("family")
            names |= {score.name} if family in BASELINE_FAMILIES else set()
    return frozenset(names)


def score_section(leaderboard: Leaderboard) -> Section:
    """The first table of the first page, its meaning and its picture."""
    headline, baselines = leaderboard.headline, baseline_names(leaderboard)
    lines = [_score_line(leaderboard, score, baselines) for score in headline.scores]
    table = markdown_table(["rank", "measure", "score", "95 % interval", "without a score because"], lines, {0, 2, 3})

    def draw() -> Figure:
        return draw_scores(headline, baselines)

    pictures = (Picture(f"{PLOTS}/headline", INTERVALS, draw),) if headline.known else ()
    entering = "; ".join(str(escape_title(leaderboard.boards[index])) for index in headline.entering) or "none"
    return Section("Headline score", (MEANING, f"Populations that enter: {entering}.", table, *pictures))


def _score_line(leaderboard: Leaderboard, score: HeadlineScore, baselines: frozenset[str]) -> list[str]:
    interval = score.tau.interval
    shown = (
        MISSING if interval is None else f"{format_correlation(interval.low)} to {format_correlation(interval.high)}"
    )
    return [
        MISSING if score.rank is None else str(score.rank),
        _name(leaderboard, score, baselines),
        MISSING if score.tau.value is None else format_correlation(score.tau.value),
        shown,
        escape_cell(score.tau.reason or "", MAX_REASON_CHARS),
    ]


def _name(leaderboard: Leaderboard, score: HeadlineScore, baselines: frozenset[str]) -> Markup:
    measure = measure_of(leaderboard, score)
    name = escape_cell(score.name) if measure is None else link_measure(measure, score.name, None)
    return Markup(f"*{name}*") if score.name in baselines else Markup(name)


def measure_of(leaderboard: Leaderboard, score: HeadlineScore) -> str | None:
    """The name of the measure of a score without hyperparameters; None for a baseline that is not a measure."""
    if score.kind == "baseline":
        return None
    places = ((board, each) for board in leaderboard.own_boards for each in board.measured)
    return next((board.measure(each) for board, each in places if each.name == score.name), None)


def page(leaderboard: Leaderboard) -> Page:
    """Measures by outcome: the heat map, and a table for each population."""
    headline = leaderboard.headline

    def draw() -> Figure:
        return draw_heat(headline)

    columns = len(list_columns(headline))
    words = HEAT if columns <= MAX_COLUMNS else f"{HEAT}; the first {MAX_COLUMNS} of {columns} columns"
    picture = (Picture(f"{PLOTS}/outcomes", words, draw),) if headline.populations else ()
    found = [_population(leaderboard, index, one) for index, one in headline.populations.items()]
    return Page("Measures by outcome", (Section("", (OUTCOMES, *picture)), *found))


def _population(leaderboard: Leaderboard, index: int, one: JudgedPopulation) -> Section:
    baselines = baseline_names(leaderboard)
    lines = [
        [_name(leaderboard, score, baselines), *(format_psi(score.parts.get((index, name))) for name in one.outcomes)]
        for score in leaderboard.headline.scores
        if any(place == index for place, _ in score.parts)
    ]
    head = ["measure", *map(str, map(escape_cell, one.outcomes))]
    enters = index in leaderboard.headline.entering
    words = f"{len(one.networks)} networks; {'enters' if enters else 'does not enter'} the headline score"
    if one.left_out:
        words += f"; {one.left_out} more are in configurations of fewer than three that passed the gate, and left out"
    return Section(
        escape_title(leaderboard.boards[index]), (f"{words}.", markdown_table(head, lines, set(range(1, len(head)))))
    )


def format_psi(tau: Tau | None) -> str:
    """A Psi with a star where its interval does not hold 0; a dash where there is none."""
    if tau is None or tau.value is None:
        return MISSING
    clear = tau.interval is not None and 0.0 not in tau.interval
    return format_correlation(tau.value) + ("*" if clear else "")
