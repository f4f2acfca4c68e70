"""The page of exactness: values against oracles, and whether the intervals that estimators state hold the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scipy.stats import binomtest

from sharpbench.analysis.scores import Score
from sharpbench.core.record import Record
from sharpbench.leaderboard.board import Board, Leaderboard
from sharpbench.leaderboard.pages.links import explain_marks, link_measures, measure_link
from sharpbench.report.escape import escape_cell, markdown_table
from sharpbench.report.format import MISSING
from sharpbench.report.markdown import errors
from sharpbench.report.page import Page, Section

INTRODUCTION = (
    "Every measure says what its value should have been, by another and slower way, and is compared with that on a few "
    "networks of each population: |value - exact| / |exact|, the largest, and the median of several. Values are those "
    "of the run, mostly float32; the oracle works in float64, so 1e-7 is rounding.\n\n"
    "`float64 engine`: the network is too large for the definition itself, and the oracle is our own engine in float64 "
    "at the same weights; this finds rounding, not mistakes of the engine."
)
COVERAGE = (
    "Estimators that draw random vectors state a 95 % interval. Below: of the networks that were compared with an "
    "oracle, how often the interval held it, over all populations, and the interval (Wilson's) in which the true share "
    "lies. A handful of networks can refute a claim, hardly confirm it."
)


@dataclass(frozen=True, slots=True)
class Covered:
    """Of `stated` intervals whose truth is known, `held` hold it."""

    held: int
    stated: int


def page(leaderboard: Leaderboard) -> Page:
    """A section a board, and the coverage of what estimators state."""
    boards = [_section(leaderboard, board) for board in leaderboard.boards]
    return Page("Exactness", (Section("", (INTRODUCTION,)), *boards, _coverage(leaderboard)))


def coverage(records: Iterable[Record]) -> Covered:
    """Whether stated intervals hold the oracle's value; what is exact up to rounding states none."""
    found = [
        record.low <= record.exact <= record.high
        for record in records
        if record.status == "ok" and record.stderr != 0.0
        if record.exact is not None and record.low is not None and record.high is not None
    ]
    return Covered(sum(found), len(found))


def _section(leaderboard: Leaderboard, board: Board) -> Section:
    checked = [score for score in board.measured if score.exactness is not None]
    title = escape_cell(board.title, 160)
    if not checked:
        return Section(title, ("No value was compared with an oracle.",))
    name = link_measures(leaderboard, board)
    ordered = sorted(checked, key=lambda score: (score.exactness.largest if score.exactness else 0.0, score.name))
    lines = [[name(score), errors(score), *_oracle(score)] for score in ordered]
    without = [str(escape_cell(score.name)) for score in board.measured if score.exactness is None]
    rest = (f"Without an oracle, or not compared: {', '.join(sorted(without))}.",) if without else ()
    header = ["measure", "relative error", "networks", "oracle"]
    return Section(title, (*explain_marks(board, "exact"), markdown_table(header, lines, {1, 2}), *rest))


def _oracle(score: Score) -> list[str]:
    found = score.exactness
    return [MISSING, MISSING] if found is None else [str(found.networks), str(escape_cell(found.oracle))]


def _coverage(leaderboard: Leaderboard) -> Section:
    rows: dict[tuple[str, str], list[tuple[Board, Score]]] = {}
    for board in leaderboard.boards:
        for score in board.measured:
            rows.setdefault((score.label, board.measure(score)), []).append((board, score))
    lines = []
    for (label, measure), found in sorted(rows.items()):
        own = [each for each in found if each[0].entry is None] or found
        each = coverage(record for board, score in own for record in board.row(score).records.values())
        if each.stated:
            name = measure_link(measure, label, leaderboard.mark(found))
            lines.append([name, f"{each.held} of {each.stated}", _share(each)])
    if not lines:
        return Section("Stated intervals", (COVERAGE, "No such interval was stated where an oracle was asked."))
    return Section("Stated intervals", (COVERAGE, markdown_table(["measure", "held", "95 % interval"], lines, {1, 2})))


def _share(covered: Covered) -> str:
    interval = binomtest(covered.held, covered.stated).proportion_ci(method="wilson")
    return f"{interval.low:.0%} to {interval.high:.0%}"
