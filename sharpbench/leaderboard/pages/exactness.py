"""The page of exactness: values against oracles, their standard errors, and how often intervals hold the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scipy.stats import binomtest

from sharpbench.core.record import Record
from sharpbench.leaderboard.board import Board, BoardRow, Leaderboard
from sharpbench.leaderboard.pages.links import (
    POPULATION,
    board_column,
    escape_title,
    explain_marks,
    link_measure,
    linked_name_column,
)
from sharpbench.report.columns import NAME, Column, describe_examples
from sharpbench.report.cost_columns import COMPARED_NETWORKS, ERROR, EXAMPLE_STDERR, ORACLE, PROBE_STDERR
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


STDERRS = (
    "A value can be exact on its examples and still be a draw. *stderr over probes* is the standard error over random "
    "vectors, on the same examples; 0: exact on these examples. *stderr over examples* is the standard error over the "
    "draw of the examples, all or a part of those that a network was trained on; `all`: it is not stated, and they are "
    "all. Both are shares of the value, medians over the networks; a dash: not stated. Below are the rows "
    "for which one of them is above 0 "
    "([what this means](../docs/protocol.md#standard-errors-of-values))."
)
NO_STDERRS = "No record states a standard error above 0."


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
    """One section per board, the standard errors of the values, and the coverage of stated intervals."""
    boards = [_section(leaderboard, board) for board in leaderboard.boards]
    return Page("Exactness", (Section("", (INTRODUCTION,)), *boards, _stderrs(leaderboard), _coverage(leaderboard)))


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


def _stderrs(leaderboard: Leaderboard) -> Section:
    """The rows with a standard error over random vectors or over examples, and on which examples each board was."""
    examples = [
        f"- {escape_title(board)}: {sentence[0].lower()}{sentence[1:]}."
        for board in leaderboard.boards
        if (sentence := describe_examples(board.measured))
    ]
    found = [
        (board, score)
        for board in leaderboard.boards
        for score in board.measured
        if any(column.value(score) for column in (PROBE_STDERR, EXAMPLE_STDERR))
    ]
    columns = (POPULATION, *map(board_column, (NAME, PROBE_STDERR, EXAMPLE_STDERR)))
    table = board_table(columns, found) if found else NO_STDERRS
    lists = ("\n".join(examples),) if examples else ()
    return Section("Standard errors of the values", (STDERRS, *lists, table))


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
