"""One table for each population of how well each measure orders its networks by each outcome."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from sharpbench.analysis.scores import Score
from sharpbench.report.board_verdict import CRITERIA
from sharpbench.report.escape import escape_cell, markdown_table
from sharpbench.report.format import MISSING, OutcomeLabel, format_correlation
from sharpbench.report.scored_boards import ScoredBoards

OUTCOMES_PAGE = "OUTCOMES.md"
MAX_NAME_CHARS = 60
HEAD = """\
# Measures by outcome

Kendall's tau of each measure (rows) with each outcome (columns). A star marks a tau whose 95 % interval does not
hold 0.
Intervals are for one comparison each. Baselines are in italics. A *partial* measure has no value on some networks, and
its tau is that of the others.

| outcome | is |
|---|---|
"""


def outcome_page(boards: Sequence[ScoredBoards]) -> str:
    """A Markdown page with a table for each population: rows are measures, columns the outcomes of `boards`."""
    labels = [each.outcome for each in boards]
    lines = "".join(f"| {escape_cell(label.title)} | {escape_cell(label.meaning)} |\n" for label in labels)
    scores = [score for each in boards for score in each.scores]
    places = dict.fromkeys((score.dataset, score.model) for score in scores)
    return HEAD + lines + "".join(_population_section(place, scores, labels) for place in places)


def _population_section(place: tuple[str, str], scores: Sequence[Score], labels: Sequence[OutcomeLabel]) -> str:
    dataset, model = place
    found = [score for score in scores if (score.dataset, score.model) == place]
    by = {score.outcome: CRITERIA[score.ranked_by] for score in found}
    rows = {(score.name, score.kind): score for score in found}
    cells = {(score.name, score.kind, score.outcome): score for score in found}
    partial = {(score.name, score.kind) for score in found if score.partial}
    lines = [
        [
            _format_name(name, kind) + (" (partial)" if (name, kind) in partial else ""),
            *(_format_tau(cells.get((name, kind, label.name))) for label in labels),
        ]
        for name, kind in rows
    ]
    header = ["measure", *(escape_cell(label.title) for label in labels)]
    table = markdown_table(header, lines, set(range(1, len(header))))
    parts = groupby(labels, lambda label: by.get(label.name, ""))
    used = "; ".join(f"{criterion}: {', '.join(label.title for label in part)}" for criterion, part in parts)
    return f"\n## {escape_cell(model)} on {escape_cell(dataset)}\n\n{used}\n\n{table}\n"


def _format_name(name: str, kind: str) -> str:
    shown = escape_cell(name, MAX_NAME_CHARS)
    return f"*{shown}*" if kind == "baseline" else str(shown)


def _format_tau(score: Score | None) -> str:
    """The tau that ranks, with a star where its interval does not hold 0."""
    if score is None:
        return MISSING
    tau = score.within if score.ranked_by == "within" else score.marginal
    if tau.value is None:
        return MISSING
    clear = tau.interval is not None and not tau.interval.low <= 0 <= tau.interval.high
    return format_correlation(tau.value) + ("*" if clear else "")
