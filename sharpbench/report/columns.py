"""Columns of the boards: what a column is, and those of the statistics. The terminal, Markdown and the site take them.

The columns of exactness, cost and invariance are in `cost_columns`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from sharpbench.analysis.scores import Score
from sharpbench.analysis.statistics import Interval
from sharpbench.analysis.value_errors import GAUSS_NEWTON, HESSIAN, ValueErrors
from sharpbench.report.format import (
    MISSING,
    format_information,
    format_interval,
    format_null,
    format_rank,
    format_share,
    plain_text,
)

MAX_AXIS_CHARS, MAX_SHORT_AXIS_CHARS = 30, 14
MAX_NAME_CHARS = 40

CONTENTION_NOTE = "!: seconds and gradients of calls next to other work, which may have taken longer than they need"

Row = TypeVar("Row", contravariant=True)
"""What a line of a board is about: a score, or a score with its board."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column(Generic[Row]):
    """One column of a board.

    Args:
        heading: On pages and on the site.
        text: The cell of a row there. Markup is left as it is; any other text is escaped by the renderer.
        value: The number by which the site sorts a row; None sorts by the text.
        short_heading, short_text: In the terminal, where they differ.
        help: What the column shows; the site's tooltip.
        footnote: What the terminal prints below the table about the column's abbreviations.
        number: Whether cells are set to the right.
        descending: Whether the site sorts from the largest value first.
        heat: Whether the site colours cells, from -1 to 1.
        max_chars: Characters of a cell of a page at most.
    """

    heading: str
    text: Callable[[Row], str]
    value: Callable[[Row], float | None] = lambda row: None
    short_heading: str = ""
    short_text: Callable[[Row], str] | None = None
    help: str = ""
    footnote: str = ""
    number: bool = True
    descending: bool = False
    heat: bool = False
    max_chars: int = 60

    @property
    def terminal_heading(self) -> str:
        """The heading in the terminal."""
        return self.short_heading or self.heading

    def terminal_text(self, row: Row) -> str:
        """The cell of `row` in the terminal."""
        return (self.short_text or self.text)(row)


class Statistic(Protocol):
    """A number with its interval, and the reason where one of them is missing."""

    @property
    def value(self) -> float | None: ...
    @property
    def interval(self) -> Interval | None: ...
    @property
    def reason(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class _SignErrorPart:
    """One number of a SignError as a Statistic."""

    value: float | None
    interval: Interval | None
    reason: str | None


def _worst_sign_error(row: Score) -> Statistic:
    signs = row.correlations.signs
    return _SignErrorPart(signs.worst, signs.worst_interval, signs.reason)


def _mean_sign_error(row: Score) -> Statistic:
    signs = row.correlations.signs
    return _SignErrorPart(signs.mean, signs.mean_interval, signs.reason)


STATISTICS: Mapping[str, Callable[[Score], Statistic]] = {
    "tau": lambda row: row.marginal,
    "tau within": lambda row: row.within,
    "Psi": lambda row: row.correlations.granulated.overall,
    "mutual information": lambda row: row.correlations.information,
    "sign error": _worst_sign_error,
    "Spearman": lambda row: row.correlations.spearman,
}
"""The statistics of the tables by the name that notes use: what lacks a value or an interval is noted."""


def _statistic_column(heading: str, read: Callable[[Score], Statistic], **fields: Any) -> Column[Score]:
    """A column of a statistic with its interval."""

    def text(row: Score) -> str:
        found = read(row)
        return format_share(found.value) + format_interval(found.interval)

    def short_text(row: Score) -> str:
        return text(row).replace(", ", ",")

    shown = {"text": text, "short_text": short_text, "value": lambda row: read(row).value} | fields
    return Column(heading=heading, **shown)


def _information(row: Score) -> str:
    return format_information(row.correlations.information)


def _format_axis(row: Score, max_chars: int) -> str:
    axis = row.correlations.signs.at
    return MISSING if axis is None else plain_text(axis, max_chars)


NAME: Column[Score] = Column(
    heading="measure",
    help="the measure with its hyperparameters, or a baseline",
    text=lambda row: row.name,
    short_text=lambda row: plain_text(row.name, MAX_NAME_CHARS) + (" (partial)" if row.partial else ""),
    number=False,
)
RANK: Column[Score] = Column(
    heading="rank",
    text=lambda row: "" if row.kind == "baseline" else format_rank(row),
    value=lambda row: None if row.rank is None else float(row.rank),
    help="1 + the number of significantly better measures",
)
PLACE = replace(RANK, text=lambda row: "partial" if row.partial else format_rank(row))
"""The rank in tables that do not set partial rows apart."""
NETWORKS: Column[Score] = Column(
    heading="n",
    text=lambda row: str(row.networks),
    value=lambda row: float(row.networks),
    help="networks that enter tau",
    descending=True,
)
TAU = _statistic_column("tau", STATISTICS["tau"], help="Kendall's, over all networks", descending=True, heat=True)
TAU_WITHIN = _statistic_column(
    "tau within cells",
    STATISTICS["tau within"],
    short_heading="tau within",
    help="tau among networks of equal hyperparameters",
    descending=True,
    heat=True,
)
PSI = _statistic_column(
    "Psi", STATISTICS["Psi"], help="tau along one hyperparameter at a time", descending=True, heat=True
)
INFORMATION = _statistic_column(
    "mutual information",
    STATISTICS["mutual information"],
    text=lambda row: _information(row) + format_interval(row.correlations.information.interval),
    short_heading="MI",
    short_text=_information,
    help="what is left when two hyperparameters are known",
    footnote="MI: mutual information, rev.: opposite orders, n.s.: as by chance",
    descending=True,
)
WORST_SIGN_ERROR = _statistic_column(
    "worst sign error",
    _worst_sign_error,
    short_heading="worst",
    short_text=lambda row: format_share(row.correlations.signs.worst),
    help="0.5 is chance",
)
COVERAGE: Column[Score] = Column(
    heading="coverage",
    text=lambda row: "" if row.kind == "baseline" else f"{row.ok}/{row.total}",
    value=lambda row: None if row.kind == "baseline" else row.ok / row.total,
    short_heading="ok",
    help="networks with a value, of all",
    descending=True,
)
SPEARMAN = _statistic_column(
    "Spearman",
    lambda row: row.correlations.spearman,
    help="Spearman's rank correlation",
    descending=True,
    heat=True,
)
MEAN_SIGN_ERROR = _statistic_column(
    "mean sign error",
    _mean_sign_error,
    short_heading="mean",
    short_text=lambda row: format_share(row.correlations.signs.mean),
    help="of all pairs of configurations; 0.5 is chance",
    footnote="worst, mean, 90 %: sign errors",
)
HIGH_SIGN_ERROR: Column[Score] = Column(
    heading="90th percentile",
    text=lambda row: format_share(row.correlations.signs.high),
    value=lambda row: row.correlations.signs.high,
    short_heading="90 %",
)
WORST_ALONG: Column[Score] = Column(
    heading="worst along",
    text=lambda row: _format_axis(row, MAX_AXIS_CHARS),
    short_text=lambda row: _format_axis(row, MAX_SHORT_AXIS_CHARS),
    number=False,
)
CHANCE: Column[Score] = Column(
    heading="information against chance",
    text=lambda row: format_null(row.correlations.information.null),
    number=False,
)

STATISTIC_COLUMNS = (TAU_WITHIN, TAU, PSI, INFORMATION, WORST_SIGN_ERROR)
MAIN = (RANK, NAME, NETWORKS, *STATISTIC_COLUMNS, COVERAGE)
"""The first table of a board: how each row goes with the gap."""
DETAILS = (NAME, SPEARMAN, MEAN_SIGN_ERROR, HIGH_SIGN_ERROR, WORST_ALONG)
"""The second table of a board, before psi of each hyperparameter."""
ALL_STATISTICS = (PLACE, NETWORKS, *STATISTIC_COLUMNS, MEAN_SIGN_ERROR, SPEARMAN, COVERAGE)
"""Both tables in one, for the site."""
SUMMARY = (
    *(PLACE, NETWORKS, TAU_WITHIN, TAU, PSI),
    replace(INFORMATION, text=_information),
    replace(WORST_SIGN_ERROR, text=lambda row: format_share(row.correlations.signs.worst)),
)
"""What the page of a measure shows of each population."""


def list_axes(rows: Sequence[Score]) -> list[str]:
    """The hyperparameters that vary, in the order of the recipes."""
    return list(dict.fromkeys(axis for row in rows for axis in row.correlations.granulated.axes))


def psi_columns(axes: Iterable[str]) -> list[Column[Score]]:
    """Psi along each hyperparameter."""
    return [_psi_column(axis) for axis in axes]


def _psi_column(axis: str) -> Column[Score]:
    def text(row: Score) -> str:
        psi = row.correlations.granulated.axes.get(axis)
        return MISSING if psi is None else format_share(psi.value) + format_interval(psi.interval)

    def short_text(row: Score) -> str:
        psi = row.correlations.granulated.axes.get(axis)
        return MISSING if psi is None else format_share(psi.value)

    return Column(
        heading=f"psi {plain_text(axis, MAX_AXIS_CHARS)}",
        text=text,
        short_heading=f"psi {plain_text(axis, MAX_SHORT_AXIS_CHARS)}",
        short_text=short_text,
    )


def matrices_in_words(row: Score) -> tuple[str, ...]:
    """The matrices that the values of a row are of, where the measure states it."""
    return () if row.value_errors is None else row.value_errors.matrices


def describe_examples(rows: Sequence[Score]) -> str:
    """One sentence: on which examples the networks of a board were measured; empty where it is not known."""
    found = {text for row in rows if row.value_errors is not None and (text := _examples_in_words(row.value_errors))}
    known = [row.value_errors for row in rows if row.value_errors is not None]
    stated = any(each.on_all_examples and each.examples is not None for each in known)
    note = "; errors over examples are for another draw of as many" if stated else ""
    return f"Measured on {', or on '.join(sorted(found))}{note}" if found else ""


def describe_board_examples(rows: Sequence[Score]) -> str:
    """The same under a board, with what its intervals leave out where they hold the error over examples."""
    held = any(row.value_errors is not None and row.value_errors.drawn and row.value_errors.examples for row in rows)
    note = "; intervals of mutual information and sign errors are for these examples only" if held else ""
    return f"{describe_examples(rows)}{note}"


def _examples_in_words(found: ValueErrors) -> str:
    if found.measured is None or found.available is None:
        return ""
    count = _format_span(found.measured)
    if not found.drawn:
        return f"all {count} examples that each network was trained on"
    return f"{count} of the {_format_span(found.available)} examples that each network was trained on, which are a draw"


def _format_span(span: tuple[int, int]) -> str:
    return " to ".join(f"{count:,}" for count in dict.fromkeys(span))


def board_notes(
    scores: Sequence[Score], statistics: Mapping[str, Callable[[Score], Statistic]] = STATISTICS
) -> list[tuple[str, list[str]]]:
    """Each reason why a cell of a table of these statistics is incomplete, with the names of the rows that have it."""
    found: dict[str, list[str]] = {}
    for row in scores:
        for reason in _reasons(row, statistics):
            found.setdefault(reason, []).append(row.name)
    if any(GAUSS_NEWTON in matrices_in_words(row) for row in scores):
        for row in scores:
            if matrices := matrices_in_words(row):
                found.setdefault(_MATRIX_NOTES[matrices], []).append(row.name)
    return list(found.items())


_MATRIX_NOTES = {
    (GAUSS_NEWTON,): "values of the Gauss-Newton matrix",
    (HESSIAN,): "values of the Hessian",
    (GAUSS_NEWTON, HESSIAN): "values of the Gauss-Newton matrix on some networks, of the Hessian on the others",
}


def _reasons(row: Score, statistics: Mapping[str, Callable[[Score], Statistic]]) -> list[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for name, read in statistics.items():
        each = read(row)
        if each.reason is not None and (each.value is None or each.interval is None) and row.networks:
            found.setdefault(("no" if each.value is None else "no interval of", each.reason), []).append(name)
    reasons = [f"{missing} {', '.join(names)}: {reason}" for (missing, reason), names in found.items()]
    if row.within.value is not None and row.within.cells < row.marginal.cells:
        reasons.append(f"tau within from {row.within.cells} of {row.marginal.cells} cells, undefined in the others")
    signs = row.correlations.signs
    if "sign error" in statistics and signs.worst is not None and signs.left_out:
        reasons.append(f"sign errors from {signs.environments} of {signs.environments + signs.left_out} environments")
    known = row.value_errors
    if known is not None and known.drawn and known.examples is None:
        reasons.append("intervals are for these examples, as no error over their draw is stated")
    if row.only_contended:
        reasons.append(CONTENTION_NOTE)
    elif row.contended:
        reasons.append(f"{row.contended} timed next to other work or in pieces, left out of seconds and gradients")
    if row.converged is not None and row.converged < 1:
        reasons.append(f"converged on only {row.converged:.0%} of the networks")
    return reasons
