"""Figures of the headline: scores with intervals, and Psi of every measure by outcome and population."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from sharpbench.analysis.headline import Headline, HeadlineScore
from sharpbench.analysis.statistics import arrange_lanes
from sharpbench.report.format import format_correlation
from sharpbench.report.plots import drawable_text

MAX_NAME_CHARS = 34
BAND_COLUMNS = 45
"""Columns of the heat map side by side; further ones stand below."""
MAX_COLUMNS = 180
"""Columns of the heat map; the pages hold all."""
AXES_LANES = 40
"""The width of the axes of the scores, in distances of two bars."""
DARK = 0.6
"""From this size of a Psi on its text is white."""


def draw_scores(headline: Headline, baselines: Collection[str]) -> Figure:
    """The scores that exist with their 95 % intervals, the highest on top; squares are baselines.

    Bars at the right join scores that cannot be told apart.
    """
    known = headline.known
    figure = Figure(figsize=(6.4, 1.1 + 0.24 * len(known)), layout="constrained")
    lanes = arrange_lanes(headline.joined)
    width = AXES_LANES, 1 + max(lanes, default=0)
    axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=width)
    axes.axvline(0, color="0.6", linewidth=0.8)
    for place, score in enumerate(known):
        interval, value = score.tau.interval, score.tau.value
        if interval is None or value is None:
            continue
        baseline = score.name in baselines
        axes.plot([interval.low, interval.high], [place, place], color="0.45" if baseline else "C0", linewidth=1.4)
        axes.plot(
            [value],
            [place],
            marker="s" if baseline else "o",
            color="0.45" if baseline else "C0",
            markerfacecolor="C0" if interval.low > 0 and not baseline else "white",
            markersize=5,
        )
    for lane, (first, last) in zip(lanes, headline.joined, strict=True):
        beside.plot([lane] * 2, [first - 0.25, last + 0.25], color="0.2", linewidth=2)
    beside.set_xlim(-0.5, width[1] - 0.5)
    beside.set_axis_off()
    axes.set_yticks(range(len(known)), [drawable_text(score.name, MAX_NAME_CHARS) for score in known], parse_math=False)
    axes.set_ylim(len(known) - 0.4, -0.6)
    axes.set_xlabel("mean Psi over populations and outcomes, 95 % interval")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def list_columns(headline: Headline) -> list[tuple[int, str]]:
    """Population and outcome of each column of the heat map."""
    return [(index, outcome) for index, one in headline.populations.items() for outcome in one.outcomes]


def draw_heat(headline: Headline) -> Figure:
    """Psi of each measure (rows, in the order of the scores) by outcome, with the numbers of the populations above."""
    bands = _list_bands(list_columns(headline)[:MAX_COLUMNS])
    scores = [score for score in headline.scores if any(tau.value is not None for tau in score.parts.values())]
    numbers = {index: str(number + 1) for number, index in enumerate(headline.populations)}
    widest = max(map(len, bands))
    size = 3.2 + 0.34 * widest, len(bands) * (2.6 + 0.22 * len(scores))
    figure = Figure(figsize=size, layout="constrained")
    panels = list(figure.subplots(len(bands), 1, squeeze=False)[:, 0])
    images = [_draw_band(axes, columns, scores, numbers) for axes, columns in zip(panels, bands, strict=True)]
    for axes in panels:
        axes.set_xlim(-0.5, max(widest, 1) - 0.5)
        axes.spines[:].set_visible(False)
    figure.colorbar(images[0], ax=panels, label="Psi", shrink=0.6 / len(bands))
    return figure


def _list_bands(columns: Sequence[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    """The columns of each row of panels: whole populations, and at most BAND_COLUMNS unless one has more."""
    bands: list[list[tuple[int, str]]] = [[]]
    for _, group in groupby(columns, key=lambda column: column[0]):
        found = list(group)
        if bands[-1] and len(bands[-1]) + len(found) > BAND_COLUMNS:
            bands.append([])
        bands[-1].extend(found)
    return bands


def _draw_band(
    axes: Axes, columns: Sequence[tuple[int, str]], scores: Sequence[HeadlineScore], numbers: Mapping[int, str]
) -> AxesImage:
    values = np.array(
        [[_value_or_nan(score, column) for column in columns] for score in scores], dtype=np.float64
    ).reshape(len(scores), len(columns))
    colours = colormaps["PuOr"].with_extremes(bad="0.92")
    image = axes.imshow(values, cmap=colours, vmin=-1, vmax=1, aspect="auto")
    for row, column in np.argwhere(np.isfinite(values)):
        value = float(values[row, column])
        colour = "white" if abs(value) >= DARK else "black"
        axes.text(column, row, format_correlation(value), ha="center", va="center", fontsize=5.5, color=colour)
    rows = [drawable_text(score.name, MAX_NAME_CHARS) for score in scores]
    axes.set_yticks(range(len(rows)), rows, fontsize=8, parse_math=False)
    names = [drawable_text(outcome, MAX_NAME_CHARS) for _, outcome in columns]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
    starts = [place for place in range(len(columns)) if place == 0 or columns[place][0] != columns[place - 1][0]]
    for start in starts:
        axes.axvline(start - 0.5, color="black", linewidth=1.2)
        number = numbers[columns[start][0]]
        axes.text(start - 0.4, -0.8, number, fontsize=8, fontweight="bold", va="bottom")
    return image


def _value_or_nan(score: HeadlineScore, column: tuple[int, str]) -> float:
    tau = score.parts.get(column)
    return float("nan") if tau is None or tau.value is None else tau.value
