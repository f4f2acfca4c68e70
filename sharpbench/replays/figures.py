"""Figures of replays, as pure functions of tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sharpbench.analysis.statistics import marginal_tau, within_tau
from sharpbench.report.plots import Points, draw_points

COLORS = ("0.15", "#31688e", "#35b779", "#b8860b", "#8b1a4a")
"""Colors that remain distinguishable in grey and for color-blind readers."""


@dataclass(frozen=True, slots=True, eq=False)
class ScatterPanel:
    """One scatter plot: its title, and a table of networks with gap, label_noise, fitted and `column`."""

    title: str
    table: pd.DataFrame
    column: str


def draw_against_gap(rows: Sequence[Sequence[ScatterPanel]], *, label: str) -> Figure:
    """Scatter plots of a measure against the gap, one point per network, with one color bar of label noise.

    Args:
        rows: the panels, row by row. Networks that did not fit are hollow.
        label: the label of the vertical axis.
    """
    wide = max(map(len, rows))
    figure = Figure(figsize=(3.1 * wide + 0.9, 2.8 * len(rows) + 0.3), dpi=120, layout="constrained")
    grid = figure.subplots(len(rows), wide, squeeze=False)
    for row, axes_row in zip(rows, grid, strict=True):
        for panel, axes in zip(row, axes_row, strict=True):
            points = _panel_points(panel)
            marks = draw_points(axes, points, size=16)
            tau = "undefined" if points.marginal.value is None else f"{points.marginal.value:.2f}"
            axes.set_title(f"{panel.title}: tau {tau}", fontsize=9)
            axes.tick_params(labelsize=8)
    figure.supxlabel("generalization gap (training - test accuracy)", fontsize=9)
    figure.supylabel(label, fontsize=9)
    figure.colorbar(marks, ax=grid, label="label noise", shrink=0.7, aspect=30)
    return figure


def _panel_points(panel: ScatterPanel) -> Points:
    rows = panel.table[panel.table[panel.column].notna() & panel.table["gap"].notna()]
    counted = rows[rows["fitted"]]
    cells = np.unique(counted["label_noise"], return_inverse=True)[1].astype(np.intp)
    pairs = counted[panel.column].to_numpy(float), counted["gap"].to_numpy(float)
    return Points(
        panel.column,
        "",
        "",
        rows[panel.column].to_numpy(float),
        rows["gap"].to_numpy(float),
        rows["label_noise"].to_numpy(float),
        rows["fitted"].to_numpy(bool),
        marginal_tau(*pairs, cells),
        within_tau(*pairs, cells),
    )


def draw_entries(table: pd.DataFrame) -> Figure:
    """Diagonal entries H_jj above 0: by the exact engine against double backward, one log-log panel per network."""
    models = list(dict.fromkeys(table["model"]))
    figure = Figure(figsize=(3.2 * len(models) + 0.4, 3.2), dpi=120, layout="constrained")
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        rows = table[(table["model"] == model) & (table["naive"] > 0) & (table["exact"] > 0)]
        axes.loglog(rows["naive"], rows["exact"], "o", markersize=4, color=COLORS[1], alpha=0.8)
        ends = [float(rows["naive"].min()), float(rows["naive"].max())] if len(rows) else [1.0, 1.0]
        axes.loglog(ends, ends, color="0.6", linewidth=0.8, zorder=0)
        axes.set_title(f"{model}, {len(rows)} entries above 0", fontsize=9)
        axes.tick_params(labelsize=8)
    figure.supxlabel("entry of the diagonal by double backward", fontsize=9)
    figure.supylabel("by the exact pass", fontsize=9)
    return figure


def draw_errors(table: pd.DataFrame) -> Figure:
    """The relative error of the approximate diagonals over the number of samples, one panel per network."""
    models, kinds = list(dict.fromkeys(table["model"])), list(dict.fromkeys(table["kind"]))
    figure = Figure(figsize=(3.4 * len(models) + 0.4, 3.2), dpi=120, layout="constrained")
    for axes, model in zip(figure.subplots(1, len(models), squeeze=False, sharey=True)[0], models, strict=True):
        for kind, color, mark in zip(kinds, COLORS[1:], "os^v", strict=False):
            rows = table[(table["model"] == model) & (table["kind"] == kind)]
            axes.loglog(rows["samples"], rows["error"], marker=mark, markersize=4, color=color, label=kind)
        axes.axhline(1.0, color="0.6", linewidth=0.8, linestyle=":")
        axes.set_title(model, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=8, frameon=False)
    figure.supxlabel("samples, two gradients each", fontsize=9)
    figure.supylabel("|estimate - diagonal| / |diagonal|", fontsize=9)
    return figure


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """A value with its interval, drawn in `panel` on the line `name`."""

    panel: str
    name: str
    value: float
    low: float
    high: float


def _set_log_scale(axes: Axes) -> None:
    """Set a logarithmic scale whose ticks are plain numbers: 1, 2 and 5 of every decade."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_intervals(rows: Sequence[IntervalRow], *, label: str, zero: float, log: bool) -> Figure:
    """Values with 95 % intervals, one panel next to the other, names from top to bottom.

    Args:
        rows: the values.
        label: the label of the horizontal axis.
        zero: the value that means no difference.
        log: whether the axis is logarithmic.
    """
    panels, names = list(dict.fromkeys(row.panel for row in rows)), list(dict.fromkeys(row.name for row in rows))
    figure = Figure(figsize=(3.3 * len(panels) + 1.4, 0.32 * len(names) + 1.2), dpi=120, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels, strict=True):
        for row in (row for row in rows if row.panel == panel):
            height = names.index(row.name)
            axes.plot([row.low, row.high], [height, height], color=COLORS[1], linewidth=1.6)
            axes.plot([row.value], [height], "o", color=COLORS[1], markersize=4.5)
        axes.axvline(zero, color="0.6", linewidth=0.8)
        if log:
            _set_log_scale(axes)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_title(panel, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(label, fontsize=9)
    return figure
