"""Figures of measures against the gap: one per measure, and an overview of all."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from sharpbench.analysis.correlations import resampling_units
from sharpbench.analysis.population import MeasuredPopulation, MeasureRow, cell_codes, finite_or_none
from sharpbench.analysis.scores import Score, is_large
from sharpbench.analysis.statistics import Tau, marginal_tau, within_tau
from sharpbench.core.forked_calls import call_side_by_side, count_workers
from sharpbench.files import atomic_write
from sharpbench.report.escape import make_slug
from sharpbench.report.format import ACCURACY_GAP, OutcomeLabel, format_correlation, format_tau, plain_text

FIGURE_STYLE: dict[str, Any] = {
    "svg.hashsalt": "sharpbench",
    "svg.fonttype": "path",
    "font.family": ["DejaVu Sans"],
    "axes.unicode_minus": False,
}
"""Settings that override the user's matplotlibrc, so that files are equal when drawn again."""
SVG_METADATA: dict[str, Any] = {"Date": None, "Creator": None}
"""Metadata of an SVG, without date and version."""


@cache
def _glyphs() -> frozenset[int]:
    """The characters that the font can draw; matplotlib warns about any other and draws a box."""
    return frozenset(get_font(findfont(FontProperties(family=["DejaVu Sans"]))).get_charmap())


def drawable_text(text: str, length: int) -> str:
    """`text` cut to `length`, with a question mark for each character that the font does not have."""
    return "".join(character if ord(character) in _glyphs() else "?" for character in plain_text(text, length))


def render_svg(figure: Figure) -> str:
    """The figure as the text of an SVG, from its root element on; equal for equal figures."""
    _lay_out(figure)
    text = _draw_svg(figure, SVG_METADATA | {"Format": None, "Type": None}).decode()
    return text[text.index("<svg ") :]


def render_figure(figure: Figure) -> dict[str, bytes]:
    """Suffix -> content: the figure as SVG and PNG, without dates or versions."""
    _lay_out(figure)
    png = io.BytesIO()
    svg = _draw_svg(figure, SVG_METADATA)
    FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return {".svg": svg, ".png": png.getvalue()}


def _lay_out(figure: Figure) -> None:
    """Lay the figure out once, for all files. `savefig` would do it, and draw everything once more, for each."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def _draw_svg(figure: Figure, metadata: dict[str, Any]) -> bytes:
    buffer, dpi = io.BytesIO(), figure.dpi
    FigureCanvasSVG(figure).print_svg(buffer, metadata=metadata)  # type: ignore[no-untyped-call]
    figure.dpi = dpi  # which is 72 in an SVG
    return buffer.getvalue()


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write the figure as SVG and PNG under `stem`; their paths."""
    paths = {stem.with_name(stem.name + suffix): content for suffix, content in render_figure(figure).items()}
    for path, content in paths.items():
        atomic_write(path, content)
    return list(paths)


Item = TypeVar("Item")


def pareto_front(items: Iterable[Item], cost_and_error: Callable[[Item], tuple[float, float]]) -> list[Item]:
    """The items such that no other one is both cheaper and at most as wrong, the cheapest first.

    >>> pareto_front([(3, 0.1), (1, 0.5), (2, 0.5)], lambda item: item)
    [(1, 0.5), (3, 0.1)]
    """
    front: list[Item] = []
    least = float("inf")
    for item in sorted(items, key=cost_and_error):
        error = cost_and_error(item)[1]
        if error < least:
            front.append(item)
            least = error
    return front


MAX_VECTOR_POINTS = 300
"""Points of a panel that an SVG holds as shapes; more are one picture in it."""
MAX_DRAWN_VALUE = 1e100
"""Absolute values beyond it, or below its inverse, are drawn there: the ticks of axes overflow near 1e308."""
OVERVIEW_NAME = "overview"
COLOUR_MAP = "viridis"  # sequential, readable in grey and by the colour-blind
MAX_COLUMNS, MAX_PANELS = 6, 48
"""Of the overview; it shows the first ones."""
PANEL_INCHES, GAP_INCHES = (2.05, 1.7), (0.6, 0.7)
"""Width and height of a panel, and of the space between panels."""
BAR_INCHES, BELOW_INCHES = 0.85, 0.25
"""Width of the colour bar, and height of the label below."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """The points of one figure: one for each network with a value and a gap."""

    label: str
    model: str
    dataset: str
    values: NDArray[np.float64]
    gaps: NDArray[np.float64]
    noise: NDArray[np.float64]  # NaN where the recipe has none, and where all have the same
    counted: NDArray[np.bool_]
    marginal: Tau
    within: Tau


def plot_populations(
    populations: Iterable[MeasuredPopulation],
    folder: Path,
    *,
    outcome: OutcomeLabel = ACCURACY_GAP,
    scores: Iterable[Score] = (),
    overview_only: bool = False,
) -> list[Path]:
    """Write a figure for each measure on each model and data set, and an overview, as SVG and PNG; their paths.

    Filled marks are the networks that enter tau; hollow ones are excluded by the gate. Equal records give equal SVGs,
    byte for byte. `outcome` is what the measures are judged by; `scores` are those that are known, so that they are not
    found again; overview_only: no figures of single measures. Rows without any point have no figure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    populations = tuple(populations)
    known = {(score.dataset, score.model, score.label, score.setting): score for score in scores}
    found = [
        collect_points(population, row, known.get((population.dataset, population.model, row.label, row.setting)))
        for population in populations
        for row in population.rows
    ]
    shown = [points for points in found if len(points.values)]
    calls = [partial(_save_measure, points, outcome, folder) for points in (() if overview_only else shown)]
    if shown:  # first, as it takes longest
        calls.insert(0, partial(_save_overview, shown[:MAX_PANELS], outcome, folder))
    with style.context(["default", FIGURE_STYLE]):  # whatever the user's matplotlibrc sets
        written = call_side_by_side(calls, workers=count_workers() if any(map(is_large, populations)) else 1)
    return [path for paths in (*written[1:], *written[:1]) for path in paths]


def _save_measure(points: Points, outcome: OutcomeLabel, folder: Path) -> list[Path]:
    """Write the figure of one measure."""
    figure = Figure(figsize=(5.2, 4.0), dpi=150, layout="constrained")
    _draw_figure(figure, figure.add_subplot(), points, outcome)
    return save_figure(figure, folder / make_slug(points.dataset, points.model, points.label))


def _save_overview(shown: Sequence[Points], outcome: OutcomeLabel, folder: Path) -> list[Path]:
    """Write the overview."""
    return save_figure(draw_overview(shown, outcome.title), folder / OVERVIEW_NAME)


def collect_points(population: MeasuredPopulation, row: MeasureRow, score: Score | None = None) -> Points:
    """The networks on which `row` has a value, and whose gap is known; `score`: that of the row, where it is known."""
    found = [
        (network, value, network.outcome)
        for network in population.networks
        if (value := row.value(network)) is not None and network.outcome is not None
    ]
    noise = [finite_or_none(network.recipe.get("label_noise")) for network, _, _ in found]
    if len(set(noise)) < 2:
        noise = [None] * len(noise)
    marginal, within = (score.marginal, score.within) if score else _find_taus(population, row)
    return Points(
        f"{row.label} ({row.setting})" if row.setting else row.label,
        population.model,
        population.dataset,
        _limit_magnitude(np.array([value for _, value, _ in found], dtype=np.float64)),
        np.array([gap for _, _, gap in found]),
        np.array([np.nan if ratio is None else ratio for ratio in noise]),
        np.array([network.counts for network, _, _ in found], dtype=np.bool_),
        marginal,
        within,
    )


def _find_taus(population: MeasuredPopulation, row: MeasureRow) -> tuple[Tau, Tau]:
    """The taus over all networks and within cells."""
    kept = [network for network in population.counted if row.value(network) is not None]
    pairs = [row.value(network) or 0.0 for network in kept], [network.outcome or 0.0 for network in kept]
    codes, together = cell_codes(kept), resampling_units(population, kept)
    return marginal_tau(*pairs, codes, together), within_tau(*pairs, codes, together)


def _limit_magnitude(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values where axes can show them; zeros stay zeros."""
    limited = np.sign(values) * np.clip(np.abs(values), 1 / MAX_DRAWN_VALUE, MAX_DRAWN_VALUE)
    return np.where(values == 0, 0.0, limited)


def _draw_figure(figure: Figure, axes: Axes, points: Points, outcome: OutcomeLabel) -> None:
    """Draw one measure with named axes, a colour bar and a legend of the hollow marks."""
    marks = draw_points(axes, points, size=36)
    axes.set_xlabel(f"{outcome.title} ({drawable_text(outcome.meaning, 60)})", parse_math=False)
    axes.set_ylabel(drawable_text(points.label, 48), parse_math=False)
    where = f"{drawable_text(points.model, 30)} on {drawable_text(points.dataset, 30)}"
    taus = f"tau {_format_tau(points.marginal)}; within cells {_format_tau(points.within)}"
    axes.set_title(f"{where}\n{taus}", fontsize=9, parse_math=False)
    if np.isfinite(points.noise).any():
        figure.colorbar(marks, ax=axes, label="label noise")
    if not points.counted.all():
        hollow = axes.scatter([], [], s=36, facecolors="none", edgecolors="0.35")
        left = f"not fitted, excluded ({int((~points.counted).sum())})"
        figure.legend([hollow], [left], fontsize=8, frameon=False, loc="outside lower center", handletextpad=0.1)


def draw_overview(shown: Sequence[Points], outcome: str = ACCURACY_GAP.title) -> Figure:
    """Small multiples of an outcome with one colour bar; each model and data set begins a row."""
    groups = [list(group) for _, group in groupby(shown, lambda points: (points.dataset, points.model))]
    columns = min(MAX_COLUMNS, max(map(len, groups)))
    lines = [group[start : start + columns] for group in groups for start in range(0, len(group), columns)]
    return draw_panels(lines, _panel_title, outcome)


def draw_panels(
    lines: Sequence[Sequence[Points]], titled: Callable[[Points], str], outcome: str = ACCURACY_GAP.title
) -> Figure:
    """One panel for each element of the lines, with one colour bar; `titled` gives the title of a panel.

    The layout is computed in inches here, because matplotlib's layout engines take longer than all the rest.
    """
    columns = max(map(len, lines))
    width, height = (
        (PANEL_INCHES[0] + GAP_INCHES[0]) * columns + BAR_INCHES,
        (PANEL_INCHES[1] + GAP_INCHES[1]) * len(lines) + BELOW_INCHES,
    )
    figure = Figure(figsize=(width, height), dpi=120)
    bottom, top = (BELOW_INCHES + 0.2) / height, 1 - 0.4 / height
    edges = {"left": GAP_INCHES[0] / width, "right": 1 - BAR_INCHES / width, "bottom": bottom, "top": top}
    spaces = {"wspace": GAP_INCHES[0] / PANEL_INCHES[0], "hspace": GAP_INCHES[1] / PANEL_INCHES[1]}
    grid = figure.subplots(len(lines), columns, squeeze=False, gridspec_kw=edges | spaces)
    for line, row in zip(lines, grid, strict=True):
        for points, axes in zip(line, row, strict=False):
            marks = draw_points(axes, points, size=14)
            axes.set_title(titled(points), fontsize=8, parse_math=False)
            axes.tick_params(which="both", labelsize=7)
        for axes in row[len(line) :]:
            axes.set_axis_off()
    figure.text(0.5, 0.05 / height, outcome, fontsize=9, ha="center", va="bottom")
    if not any(np.isfinite(points.noise).any() for line in lines for points in line):
        return figure
    bar = figure.add_axes((1 - (BAR_INCHES - 0.2) / width, bottom, 0.12 / width, top - bottom))
    figure.colorbar(marks, cax=bar).set_label("label noise", fontsize=8)
    bar.tick_params(labelsize=7)
    return figure


def _panel_title(points: Points) -> str:
    """The title of a panel of the overview."""
    where = f"{drawable_text(points.model, 16)}, {drawable_text(points.dataset, 12)}"
    return f"{drawable_text(points.label, 30)}\n{where}: tau {format_tau_value(points.marginal)}"


def draw_points(axes: Axes, points: Points, *, size: float) -> PathCollection:
    """Draw the points, on a log scale where the measure is positive and spans more than a decade."""
    kept, left = points.counted, ~points.counted
    palette = colormaps[COLOUR_MAP].with_extremes(bad="0.6")
    scale = Normalize(0.0, float(np.nanmax(points.noise, initial=1.0)))
    axes.scatter(points.gaps[left], points.values[left], s=size, facecolors="none", edgecolors="0.35", linewidths=0.9)
    many = len(kept) > MAX_VECTOR_POINTS
    colours: dict[str, Any] = {"c": points.noise[kept], "cmap": palette, "plotnonfinite": True, "norm": scale}
    if many and not np.isfinite(points.noise).any():
        colours = {"facecolors": palette.get_bad()}  # one colour for all is drawn several times faster
    marks = axes.scatter(
        points.gaps[kept],
        points.values[kept],
        s=size,
        edgecolors="0.2",
        linewidths=0.4,
        alpha=0.9,
        rasterized=many,
        **colours,
    )
    low, high = float(points.values.min()), float(points.values.max())
    if low > 0 and high > 10 * low:
        axes.set_yscale("log")
        between = (1, 2, 5) if high < 100 * low else (1,)
        axes.yaxis.set_major_locator(LogLocator(subs=between))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return marks


def format_tau_value(tau: Tau) -> str:
    """The value without its interval, or 'undefined'."""
    return "undefined" if tau.value is None else format_correlation(tau.value)


def _format_tau(tau: Tau) -> str:
    return "undefined" if tau.value is None else format_tau(tau)
