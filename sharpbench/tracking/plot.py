"""The figure of a tracker: measures over the steps, with the values at which training becomes unstable."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from sharpbench.report.plots import drawable_text
from sharpbench.tracking.rows import COLUMNS_BEFORE, measure_columns
from sharpbench.tracking.sinks import Row

COLORS = ("#31688e", "#35b779", "#b8860b", "#8b1a4a", "#6a51a3", "0.35")
"""Colors that remain distinguishable in grey and for color-blind readers."""
SHARPNESS = ("top-eigenvalue", "critical-sharpness", "batch-sharpness")
"""Measures that 2/eta bounds."""
PRECONDITIONED = "preconditioned-sharpness"
MAX_NAME_CHARS = 40


def draw_rows(rows: Sequence[Row]) -> Figure:
    """One panel for what 2/eta bounds, one for the preconditioned sharpness, and one for each other measure."""
    names = measure_columns(rows)
    panels: dict[str, list[str]] = {}
    for name in names:
        kind = name.partition("[")[0]
        key = "sharpness" if kind in SHARPNESS else name
        panels.setdefault(key, []).append(name)
    count = max(1, len(panels))
    figure = Figure(figsize=(7.0, 2.2 * count + 0.5), dpi=120, layout="constrained")
    grid = figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0]
    for axes, (title, held) in zip(grid, panels.items(), strict=False):
        for place, name in enumerate(held):
            steps, values = _points(rows, name)
            label = drawable_text(name, MAX_NAME_CHARS)
            axes.plot(steps, values, ".-", markersize=4, linewidth=1.1, color=COLORS[place % len(COLORS)], label=label)
        if title == "sharpness":
            _draw_line(axes, rows, COLUMNS_BEFORE[2], "--")
        elif title.startswith(PRECONDITIONED):
            _draw_line(axes, rows, COLUMNS_BEFORE[3], "--")
        axes.legend(fontsize=8, frameon=False)
        axes.tick_params(labelsize=8)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.spines[["top", "right"]].set_visible(False)
    grid[-1].set_xlabel("step", fontsize=9)
    return figure


def _draw_line(axes: object, rows: Sequence[Row], name: str, style: str) -> None:
    steps, values = _points(rows, name)
    if steps:
        axes.plot(steps, values, style, color="0.15", linewidth=1.0, label=name)  # type: ignore[attr-defined]


def _points(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    """The steps at which the column has a number, and the numbers."""
    found = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
    return [float(str(step)) for step, _ in found], [float(str(value)) for _, value in found]
