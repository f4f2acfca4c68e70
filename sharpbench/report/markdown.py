"""Markdown: LEADERBOARD.md, a pure function of scores and records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sharpbench.analysis.costs import environment_text
from sharpbench.analysis.scores import Score
from sharpbench.core.record import Record
from sharpbench.report.escape import escape_cell, markdown_table
from sharpbench.report.format import (
    KINDS,
    MISSING,
    axes_of,
    board_notes,
    format_error,
    format_factor,
    format_memory,
    format_number,
    format_share,
    information_text,
    interval_text,
    null_text,
    rank_text,
    reasons_text,
    tau_text,
)

REASONS_SHOWN = 20
AXIS, AXES_SHOWN = 30, 12

Named = Callable[[Score], str]


def markdown_leaderboard(
    scores: Sequence[Score], records: Sequence[Record], *, version: str, overview: str | None = None
) -> str:
    """The page as text, equal for equal records whatever their order.

    overview: the address of the overview figure, relative to the page; None leaves it out.
    """
    letters = letters_of(records)
    groups = [list(rows) for _, rows in groupby(scores, lambda row: (row.dataset, row.model))]
    boards = [
        {**described(rows), "costs": _costs([row for row in rows if row.kind == "measure"], letters)} for rows in groups
    ]
    return render_board("leaderboard", boards=boards, letters=letters, version=version, overview=overview)


def render_board(template: str, **values: object) -> str:
    """A template of this package as text; all that it is given is escaped."""
    pages = Environment(
        loader=PackageLoader("sharpbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    pages.filters["cell"] = escape_cell
    return pages.get_template(f"{template}.md.jinja").render(values)


def letters_of(records: Iterable[Record]) -> dict[str, str]:
    """A letter for each environment, in their order."""
    environments = sorted({environment_text(record.environment) for record in records if record.environment})
    return {environment: _letter(index) for index, environment in enumerate(environments)}


def _letter(index: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    return (_letter(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)


def described(rows: list[Score], name: Named | None = None) -> dict[str, object]:
    """What the templates show of one model and data set beside its costs. name: the cell of a row's name."""
    first = rows[0]
    measured = [row for row in rows if row.kind == "measure"]
    failed = sorted(
        ((each.count, row.name, each.status, each.reason) for row in measured for each in row.failures),
        key=lambda each: (-each[0], *each[1:]),
    )
    return {
        "dataset": first.dataset,
        "model": first.model,
        "correlations": _correlations(rows, name or named),
        "by_axis": _by_axis(rows, name or named),
        "total": first.total,
        "excluded": first.excluded,
        "exclusions": reasons_text(first.exclusions),
        "more_axes": len(axes_of(rows)) - AXES_SHOWN,
        "ranked_by": first.ranked_by,
        "random": first.judgement.drawn == "configurations",
        "ranked": any(row.rank is not None for row in rows),
        "partial": any(row.partial for row in rows),
        "approximate": any(row.exactness is not None and row.exactness.oracle != "definition" for row in rows),
        "notes": board_notes(measured),
        "failures": failed[:REASONS_SHOWN],
        "more_failures": len(failed) - REASONS_SHOWN,
    }


def named(row: Score) -> str:
    """The name of a row as a cell; baselines in italics."""
    return f"*{escape_cell(row.name)}*" if row.kind == "baseline" else escape_cell(row.name)


def _correlations(rows: list[Score], name: Named) -> Markup:
    """The main table: how each row goes with the gap."""
    header = [
        "rank",
        "measure",
        "n",
        "tau",
        "tau within cells",
        "Psi",
        "mutual information",
        "worst sign error",
        "coverage",
    ]
    lines: list[list[str]] = []
    for index, row in enumerate(rows):
        if row.partial and not (index and rows[index - 1].partial):
            lines.append(["", "**partial, not ranked**", *[""] * (len(header) - 2)])
        judged = row.judgement
        known, signs = judged.information, judged.signs
        lines.append(
            [
                "" if row.kind == "baseline" else rank_text(row),
                name(row),
                str(row.networks),
                *(escape_cell(tau_text(tau)) for tau in (row.marginal, row.within, judged.granulated.overall)),
                escape_cell(information_text(known) + interval_text(known.interval)),
                escape_cell(format_share(signs.worst) + interval_text(signs.worst_interval)),
                "" if row.kind == "baseline" else f"{row.ok}/{row.total}",
            ]
        )
    return markdown_table(header, lines, right=set(range(len(header))) - {1})


def _by_axis(rows: list[Score], name: Named) -> Markup:
    """The table behind it: other averages, and psi along each hyperparameter."""
    axes = axes_of(rows)[:AXES_SHOWN]
    header = ["measure", "Spearman", "mean sign error", "90th percentile", "worst along", "information against chance"]
    lines = []
    for row in rows:
        signs, known = row.judgement.signs, row.judgement.information
        psi = row.judgement.granulated.axes
        lines.append(
            [
                name(row),
                escape_cell(tau_text(row.judgement.spearman)),
                escape_cell(format_share(signs.mean) + interval_text(signs.mean_interval)),
                format_share(signs.high),
                escape_cell(signs.at or MISSING, AXIS),
                escape_cell(null_text(known.null)),
                *(escape_cell(tau_text(psi[axis])) if axis in psi else MISSING for axis in axes),
            ]
        )
    header += [f"psi {escape_cell(axis, AXIS)}" for axis in axes]
    return markdown_table(header, lines, right=set(range(len(header))) - {0, 4, 5})


def _costs(rows: list[Score], letters: dict[str, str]) -> Markup:
    """Exactness, invariance and cost of the measures."""
    places = sorted({timing.environment for row in rows for timing in row.timings})
    seconds = ["seconds"] if len(places) < 2 else [f"seconds {letters[place]}" for place in places]
    present = {kind for row in rows for kind in row.invariance}
    kinds = [kind for kind in KINDS if kind in present]
    header = ["measure", "relative error", *(f"{kind} ×" for kind in kinds), *seconds, "gradients", "peak memory"]
    lines = []
    for row in rows:
        timed = {timing.environment: timing.seconds for timing in row.timings}
        lines.append(
            [
                named(row),
                errors(row),
                *(format_factor(row.invariance, kind) for kind in kinds),
                *(format_number(timed.get(place)) for place in places or [""]),
                format_number(row.gradients),
                format_memory(row.peak_bytes),
            ]
        )
    return markdown_table(header, lines, right=set(range(len(header))) - {0})


def errors(row: Score) -> str:
    """The largest relative error, and the median where there are several."""
    if row.exactness is None:
        return MISSING
    mark = "" if row.exactness.oracle == "definition" else "\\*"
    middle = f" (median {format_error(row.exactness.median)})" if row.exactness.networks > 1 else ""
    return f"{format_error(row.exactness.largest)}{mark}{middle}"
