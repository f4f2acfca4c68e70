"""The page about a tracker's rows: one line per measure, what was left out, and the figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import pandas as pd

from sharpbench.report.escape import escape_cell
from sharpbench.report.format import plain_text
from sharpbench.report.page import Block, Page, Picture, Section
from sharpbench.tracking.plot import PRECONDITIONED, SHARPNESS, draw_rows
from sharpbench.tracking.rows import NOTE_GAP, measure_columns
from sharpbench.tracking.sinks import Row

MISSING = "-"
MAX_NAME_CHARS = 27
MAX_NOTE_CHARS, MAX_NOTES = 160, 6
"""Notes that are shown, and the length of each; the rest are counted."""
LAST_SHARE = 4
"""Equal parts of the steps; the mean is over the last part."""


def describe_rows(rows: Sequence[Row], name: str) -> Page:
    """The page about the rows of the file `name`, by step, at least one; its table is at most 80 characters wide."""
    names = measure_columns(rows)
    first, last = int(str(rows[0]["step"])), int(str(rows[-1]["step"]))
    measured = f"{len(rows)} measurements from step {first:,} to step {last:,}"
    rates = [float(str(row["learning_rate"])) for row in rows if row["learning_rate"] is not None]
    if rates:
        span = f"{rates[0]:g}" if min(rates) == max(rates) else f"from {rates[0]:g} to {rates[-1]:g}"
        measured += f", learning rate {span}"
    share, skipped = rows[-1].get("share"), sum(int(str(row.get("skipped") or 0)) for row in rows)
    cost = "" if share is None else f" Measuring took {100 * float(str(share)):.1f} % of the training time."
    if skipped:
        cost += f" The budget left out {skipped:,} measurements."
    table = pd.DataFrame([_summarize(rows, column) for column in names])
    blocks: tuple[Block, ...] = (
        f"{measured}.{cost}",
        "late mean: over the last quarter of the steps. / bound: that mean divided by the bound at "
        "the same steps, which is the optimizer's own for the preconditioned sharpness, and 2/eta for other "
        "sharpness under gradient descent without momentum.",
        table,
        *_list_notes(rows),
        Picture("track", "The measures over the steps, with the bounds.", lambda: draw_rows(rows)),
    )
    return Page(f"Sharpness while training: {escape_cell(name)}", (Section("", blocks),))


def _summarize(rows: Sequence[Row], column: str) -> dict[str, str]:
    values = [(row, float(str(row[column]))) for row in rows if row.get(column) is not None]
    ends = int(str(rows[0]["step"])), int(str(rows[-1]["step"]))
    begin = ends[1] - (ends[1] - ends[0]) / LAST_SHARE
    late = [(row, value) for row, value in values if int(str(row["step"])) >= begin]
    kind = column.partition("[")[0]
    line = "2/eta" if kind in SHARPNESS else "bound" if kind == PRECONDITIONED else None
    bounded = [(row, value) for row, value in late if line == "bound" or row["bound"] == row["2/eta"]]
    shares = [value / float(str(row[line])) for row, value in bounded if line is not None and row[line]]
    numbers = [value for _, value in values]
    return {
        "measure": plain_text(column, MAX_NAME_CHARS),
        "n": str(len(values)),
        "first": _format(numbers[0] if numbers else None),
        "largest": _format(max(numbers, default=None)),
        "last": _format(numbers[-1] if numbers else None),
        "late mean": _format(fmean(value for _, value in late) if late else None),
        "/ bound": _format(fmean(shares) if shares else None),
    }


def _format(value: float | None) -> str:
    return MISSING if value is None or not math.isfinite(value) else f"{value:.4g}"


def _list_notes(rows: Sequence[Row]) -> list[str]:
    """Why values are missing, each reason once with the number of its rows."""
    counts: dict[str, int] = {}
    for row in rows:
        for note in filter(None, str(row.get("notes") or "").split(NOTE_GAP)):
            counts[note] = counts.get(note, 0) + 1
    lines = [f"{escape_cell(note, MAX_NOTE_CHARS)} ({count} of {len(rows)})" for note, count in counts.items()]
    more = [f"and {len(lines) - MAX_NOTES} more notes, in the file"] if len(lines) > MAX_NOTES else []
    return [f"Missing: {line}." for line in [*lines[:MAX_NOTES], *more]]
