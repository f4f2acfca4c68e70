"""Figures of a landscape: the curve of a line; contours and surface of a plane."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sharpbench.landscapes.loss_grid import LossGrid
from sharpbench.report.plots import drawable_text

COLOR_MAP, LINE_COLOR, MARK_COLOR = "viridis", "#31688e", "#d1495b"
LOG_RATIO = 20.0
"""The largest loss divided by the smallest above which colors and heights are logarithmic."""
LEVELS = 18
"""Lines of equal loss."""
MAX_NAMED_MARKS = 6
"""Checkpoints that are labelled with their names; of more, the first and the last."""
MAX_NAME_CHARS = 24


def is_logarithmic(losses: NDArray[np.float64]) -> bool:
    """Whether the finite losses are all above 0 and span a factor of more than LOG_RATIO."""
    finite = losses[np.isfinite(losses)]
    return bool(finite.size and finite.min() > 0 and finite.max() > LOG_RATIO * finite.min())


def draw_landscape(found: LossGrid) -> Figure:
    """The figure of the landscape."""
    losses = found.losses.numpy()
    if losses.ndim == 1:
        return _draw_line(found, losses)
    figure = Figure(figsize=(10.4, 4.6), dpi=120, layout="constrained")
    grid = figure.add_gridspec(1, 2, width_ratios=(1.12, 1))
    flat: Any = figure.add_subplot(grid[0, 0])
    norm = _norm(losses)
    _draw_contours(flat, found, losses, norm)
    bar = figure.colorbar(_mappable(norm), ax=flat, shrink=0.92, pad=0.02)
    bar.set_label("loss", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    solid: Any = figure.add_subplot(grid[0, 1], projection="3d")
    _draw_surface(solid, found, losses, norm)
    return figure


def _norm(losses: NDArray[np.float64]) -> Normalize:
    finite = losses[np.isfinite(losses)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    high = high if high > low else low + 1e-12 + abs(low) * 1e-9
    return LogNorm(low, high) if is_logarithmic(losses) else Normalize(low, high)


def _mappable(norm: Normalize) -> Any:
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(norm, COLOR_MAP)


def _draw_line(found: LossGrid, losses: NDArray[np.float64]) -> Figure:
    figure = Figure(figsize=(6.4, 3.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(found.grid[0], losses, color=LINE_COLOR, linewidth=1.6)
    for mark in found.marks:
        nearest = float(np.interp(mark.place[0], found.grid[0], losses))
        axes.plot(mark.place[0], nearest, "o", color=MARK_COLOR, markersize=5, zorder=3)
    _name_marks(
        axes, found, [(mark.place[0], float(np.interp(mark.place[0], found.grid[0], losses))) for mark in found.marks]
    )
    if is_logarithmic(losses):
        axes.set_yscale("log")
    axes.set_xlabel(found.labels[0], fontsize=9)
    axes.set_ylabel("loss", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_contours(axes: Axes, found: LossGrid, losses: NDArray[np.float64], norm: Normalize) -> None:
    x, y = (np.array(each) for each in found.grid)
    shown = np.ma.masked_invalid(losses)
    axes.pcolormesh(x, y, shown, norm=norm, cmap=COLOR_MAP, shading="gouraud", rasterized=True)
    low, high = float(norm.vmin or 0.0), float(norm.vmax or 1.0)
    logarithmic = isinstance(norm, LogNorm)
    levels = np.geomspace(low, high, LEVELS + 2)[1:-1] if logarithmic else np.linspace(low, high, LEVELS + 2)[1:-1]
    if float(shown.max()) > float(shown.min()):
        axes.contour(x, y, shown, levels=levels, colors="white", linewidths=0.55, alpha=0.75)
    if found.marks:
        places = [(mark.place[0], mark.place[1]) for mark in found.marks]
        axes.plot(*zip(*places, strict=True), ".-", color=MARK_COLOR, linewidth=1.1, markersize=7, zorder=3)
        _name_marks(axes, found, places)
    else:
        axes.plot(0, 0, "+", color="white", markersize=11, markeredgewidth=1.6)
    axes.set_xlabel(found.labels[0], fontsize=9)
    axes.set_ylabel(found.labels[1], fontsize=9)
    axes.tick_params(labelsize=8)


def _name_marks(axes: Axes, found: LossGrid, places: list[tuple[float, float]]) -> None:
    ends = {0, len(places) - 1}
    for index, (mark, place) in enumerate(zip(found.marks, places, strict=True)):
        if len(places) <= MAX_NAMED_MARKS or index in ends:
            axes.annotate(
                drawable_text(mark.name, MAX_NAME_CHARS),
                place,
                xytext=(5, 5),
                textcoords="offset points",
                fontsize=7.5,
                color="white" if found.losses.ndim == 2 else "0.2",
            )


def _draw_surface(axes: Any, found: LossGrid, losses: NDArray[np.float64], norm: Normalize) -> None:
    x, y = np.meshgrid(*(np.array(each) for each in found.grid))
    logarithmic = isinstance(norm, LogNorm)
    heights = np.where(np.isfinite(losses), losses, np.nan)
    if logarithmic:
        heights = np.log10(heights)
    colors = colormaps[COLOR_MAP](norm(np.ma.masked_invalid(losses)).filled(0.0))[..., :3]
    axes.plot_surface(
        x, y, heights, facecolors=colors, rstride=1, cstride=1, linewidth=0, antialiased=False, rasterized=True
    )
    if logarithmic:
        axes.zaxis.set_major_formatter(lambda value, place: f"{10**value:.2g}")
    axes.tick_params(labelsize=7, pad=0)
    axes.tick_params(axis="z", pad=3)
    axes.view_init(elev=32, azim=-58)
    axes.set_box_aspect((1, 1, 0.72), zoom=0.9)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.pane.set_facecolor((1, 1, 1, 0))
        axis.pane.set_edgecolor("0.85")
        axis._axinfo["grid"]["color"] = "0.9"
