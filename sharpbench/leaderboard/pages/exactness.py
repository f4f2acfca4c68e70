"""The page of exactness: values against oracles, and how often stated intervals hold the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scipy.stats import binomtest

from sharpbench.core.record import Record
from sharpbench.leaderboard.board import Board, BoardRow, Leaderboard
from sharpbench.leaderboard.pages.links import escape_title, explain_marks, link_measure, linked_name_column
from sharpbench.report.columns import Column
from sharpbench.report.cost_columns import COMPARED_NETWORKS, ERROR, ORACLE
from sharpbench.report.escape import escape_cell, markdown_table
from sharpbench.report.format import MISSING
from sharpbench.report.markdown import board_table
from sharpbench.report.page import Page, Section

INTRODUCTION = (
    "Most measures have an oracle, a slower and independent way to compute the value. The value is compared with it "
    "on a few networks of each population: |value - exact| / |exact|, the largest, and the median of several. "
    "Values are those of the run, mostly in float32. The oracle works in float64, so 1e-7 is rounding.\n\n"
    "`float64 engine`: the network is too large for the definition, and the oracle is our own engine in float64 at "
    "the same weights. This finds rounding, but not mistakes of the engine."
)
COVERAGE = (
    "Estimators that draw random vectors state a 95 % interval. The table shows how often the interval held the "
    "oracle's value, over all networks that were compared in all populations, and the interval (Wilson's) of the "
    "true share. A few networks can refute a claim, but hardly confirm it."
)


@dataclass(frozen=True, slots=True)
class Coverage:
    """The number of stated intervals whose truth is known, and of those that hold it."""

    held: int
    stated: int

    @property
    def text(self) -> str:
        """'19 of 20'."""
        return f"{self.held} of {self.stated}" if self.stated else MISSING


def _row_coverage(row: BoardRow) -> Coverage:
    board, score = row
    return count_coverage(board.row(score).records.values())


def _held_share(row: BoardRow) -> float | None:
    found = _row_coverage(row)
    return found.held / found.stated if found.stated else None


INTERVALS_HELD: Column[BoardRow] = Column(
    heading="intervals held",
    text=lambda row: _row_coverage(row).text,
    value=_held_share,
    help="of those stated where the truth is known",
    descending=True,
)


def page(leaderboard: Leaderboard) -> Page:
    """One section per board, and the coverage of stated intervals."""
    boards = [_section(leaderboard, board) for board in leaderboard.boards]
    return Page("Exactness", (Section("", (INTRODUCTION,)), *boards, _coverage(leaderboard)))


def count_coverage(records: Iterable[Record]) -> Coverage:
    """How many stated intervals hold the oracle's value; values that are exact up to rounding have no interval."""
    found = [
        record.low <= record.exact <= record.high
        for record in records
        if record.status == "ok" and record.stderr != 0.0
        if record.exact is not None and record.low is not None and record.high is not None
    ]
    return Coverage(sum(found), len(found))


def _section(leaderboard: Leaderboard, board: Board) -> Section:
    checked = [score for score in board.measured if score.exactness is not None]
    title = escape_title(board)
    if not checked:
        return Section(title, ("No value was compared with an oracle.",))
    ordered = sorted(checked, key=lambda score: (score.exactness.largest if score.exactness else 0.0, score.name))
    columns = (linked_name_column(leaderboard, board), ERROR, COMPARED_NETWORKS, ORACLE)
    without = [str(escape_cell(score.name)) for score in board.measured if score.exactness is None]
    rest = (f"Without an oracle, or not compared: {', '.join(sorted(without))}.",) if without else ()
    return Section(title, (*explain_marks(board, "exact"), board_table(columns, ordered), *rest))


def _coverage(leaderboard: Leaderboard) -> Section:
    rows: dict[tuple[str, str], list[BoardRow]] = {}
    for board in leaderboard.boards:
        for score in board.measured:
            rows.setdefault((score.label, board.measure(score)), []).append((board, score))
    lines = []
    for (label, measure), found in sorted(rows.items()):
        own = [each for each in found if each[0].entry is None] or found
        each = count_coverage(record for board, score in own for record in board.row(score).records.values())
        if each.stated:
            name = link_measure(measure, label, leaderboard.mark(found))
            lines.append([name, each.text, _share(each)])
    if not lines:
        return Section("Stated intervals", (COVERAGE, "No network with an oracle has a stated interval."))
    return Section("Stated intervals", (COVERAGE, markdown_table(["measure", "held", "95 % interval"], lines, {1, 2})))


def _share(covered: Coverage) -> str:
    interval = binomtest(covered.held, covered.stated).proportion_ci(method="wilson")
    return f"{interval.low:.0%} to {interval.high:.0%}"
