"""Console: the scores as a terminal table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sharpbench.analysis.costs import environment_text
from sharpbench.analysis.scores import Score
from sharpbench.analysis.statistics import Tau
from sharpbench.core.record import Record
from sharpbench.report.format import (
    MISSING,
    axes_of,
    board_notes,
    error_text,
    format_factor,
    format_memory,
    format_number,
    format_share,
    information_text,
    plain_text,
    rank_text,
    reasons_text,
    tau_text,
)

LEAST_WIDTH = 120  # of a table that goes to a file
FULL_WIDTH = 114  # of the terminal; narrower ones go without the last columns
DROPPED = 4
NAME, AXIS, REASON, NOTES_SHOWN = 40, 14, 160, 12


def show_boards(scores: Sequence[Score], records: Sequence[Record], console: Console) -> None:
    """Print a table for each model and data set, what its cells leave out, and the environments.

    Where `console` is no terminal, tables keep their width instead of shrinking to 80 columns.
    """
    for _, rows in groupby(scores, lambda row: (row.dataset, row.model)):
        _show_board(list(rows), console)
    for environment in sorted({environment_text(record.environment) for record in records if record.environment}):
        _print(Text(f"environment: {plain_text(environment, 400)}", style="dim"), console)


def _show_board(rows: list[Score], console: Console) -> None:
    first = rows[0]
    _print(Text(f"{plain_text(first.model, NAME)} on {plain_text(first.dataset, NAME)}", style="bold"), console)
    measured = [row for row in rows if row.kind == "measure"]
    for table in (_correlations(rows, console), _by_axis(rows, console), _costs(measured, console)):
        console.print(table, crop=False)
    for line in _remarks(rows):
        _print(Text(line, style="dim"), console)
    console.print()


def _print(text: Text, console: Console) -> None:
    """One paragraph; outside a terminal, one line."""
    console.print(text, soft_wrap=not console.is_terminal)


def _width(console: Console) -> int:
    return console.width if console.is_terminal else max(LEAST_WIDTH, console.width)


def _table(headings: Sequence[str], lines: Sequence[tuple[Score, list[str]]], console: Console) -> Table:
    """Lines of the same rows in the same order; baselines and partial rows stand apart."""
    table = Table(
        box=box.SIMPLE_HEAD,
        width=None if console.is_terminal else _width(console),
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for heading in headings:
        if heading == "measure":
            table.add_column(heading, overflow="fold", min_width=None if _width(console) < FULL_WIDTH else 14)
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    for (row, texts), (following, _) in zip(lines, [*lines[1:], (None, [])], strict=True):
        last = following is not None and (following.partial, following.kind) != (row.partial, row.kind)
        cells = [Text(text) for text in texts[: len(headings)]]
        table.add_row(*cells, style="italic dim" if row.kind == "baseline" else None, end_section=last)
    return table


def _correlations(rows: list[Score], console: Console) -> Table:
    """The main table; a narrow terminal goes without its last columns."""
    headings = ("rank", "measure", "n", "tau", "tau within", "Psi", "MI", "worst", "ok")
    lines = []
    for row in rows:
        rank, done = ("", "") if row.kind == "baseline" else (rank_text(row), f"{row.ok}/{row.total}")
        taus = [_narrow(tau) for tau in (row.marginal, row.within, row.judgement.granulated.overall)]
        known, worst = row.judgement.information, row.judgement.signs.worst
        lines.append(
            (row, [rank, _name(row), str(row.networks), *taus, information_text(known), format_share(worst), done])
        )
    return _table(headings[: -DROPPED if _width(console) < FULL_WIDTH else None], lines, console)


def _by_axis(rows: list[Score], console: Console) -> Table:
    """Psi of each hyperparameter, as many as the terminal holds, and other averages."""
    axes = axes_of(rows)
    headings = [
        "measure",
        "Spearman",
        "mean",
        "90 %",
        "worst along",
        *(f"psi {plain_text(axis, AXIS)}" for axis in axes),
    ]
    widths = [NAME // 2, 16, 4, 4, AXIS, *(len(heading) for heading in headings[5:])]
    fitting = sum(sum(widths[: count + 1]) + count <= _width(console) for count in range(len(widths)))
    lines = []
    for row in rows:
        signs, psi = row.judgement.signs, row.judgement.granulated.axes
        along = MISSING if signs.at is None else plain_text(signs.at, AXIS)
        texts = [_name(row), _narrow(row.judgement.spearman), format_share(signs.mean), format_share(signs.high), along]
        lines.append((row, texts + [format_share(psi[axis].value) if axis in psi else MISSING for axis in axes]))
    return _table(headings[:fitting], lines, console)


def _costs(rows: list[Score], console: Console) -> Table:
    """Exactness, cost and invariance of the measures."""
    headings = ("measure", "error", "seconds", "change", "grads", "memory")
    lines = []
    for row in rows:
        changed = (
            "/".join(format_factor(row.invariance, kind) for kind in ("layer", "unit")) if row.invariance else MISSING
        )
        costs = [_seconds(row), changed, format_number(row.gradients), format_memory(row.peak_bytes)]
        lines.append((row, [_name(row), error_text(row), *costs]))
    return _table(headings, lines, console)


def _name(row: Score) -> str:
    return plain_text(row.name, NAME) + (" (partial)" if row.partial else "")


def _narrow(tau: Tau) -> str:
    return tau_text(tau).replace(", ", ",")


def _seconds(row: Score) -> str:
    """The seconds of one environment; of several, nothing that could be compared."""
    if not row.timings:
        return MISSING
    return format_number(row.timings[0].seconds) if len(row.timings) == 1 else "differ"


def _remarks(rows: list[Score]) -> list[str]:
    first, measured = rows[0], [row for row in rows if row.kind == "measure"]
    by = "tau within cells" if first.ranked_by == "within" else "tau over all networks (cells too small for within)"
    why = f" ({reasons_text(first.exclusions)})" if first.exclusions else ""
    gate = f"{first.excluded} excluded as not fitted{why}"
    lines = [f"{first.total} networks, {gate}; ranked by {by}; [95 % intervals]"]
    if first.judgement.drawn == "configurations":
        lines.append("configurations were drawn at random: intervals are for as many others of the same grid")
        lines.append("but those of Psi and sign errors, which are for the same configurations")
    lines.append("MI: mutual information, rev.: opposite orders, n.s.: as by chance; worst, mean, 90 %: sign errors")
    lines += [f"{plain_text(reason, REASON)}: {_names(names)}" for reason, names in board_notes(measured)]
    if any(row.exactness is not None and row.exactness.oracle != "definition" for row in rows):
        lines.append("* against the float64 engine, not the definition")
    if any(row.invariance for row in rows):
        lines.append("change: by which factor, when layers / single units are rescaled and the function stays")
    failed = [
        f"{plain_text(row.name, NAME)}, {each.count} {plain_text(each.status, NAME)}: {plain_text(each.reason, REASON)}"
        for row in measured
        for each in row.failures
    ]
    if len(failed) > NOTES_SHOWN:
        failed = [*failed[:NOTES_SHOWN], f"and {len(failed) - NOTES_SHOWN} more reasons, in the records"]
    return lines + failed


def _names(names: list[str]) -> str:
    shown = ", ".join(plain_text(name, NAME) for name in names[:6])
    return shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")
