"""A plot of error against seconds on one network, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from sharpbench.comparison.results import TARGET_ERROR, ContestantResult, NetworkResult
from sharpbench.report.plots import drawable_text, pareto_front

MIN_DRAWN_ERROR = 1e-16
"""Smaller errors, also 0, are drawn here."""
BUILT_IN_COLOUR, OTHER_COLOUR = "#1f5fa8", "#b0521e"


def draw_results(found: NetworkResult) -> Figure:
    """Error against seconds of the contestants that have an error, numbered, with the list of their names.

    Built-in measures have filled marks, others hollow ones. Circles are deterministic, triangles sampled.
    """
    shown = [result for result in found.results if result.error is not None]
    figure = Figure(figsize=(10.5, max(4.2, 1.0 + 0.17 * len(shown))), dpi=120, layout="constrained")
    axes, names = figure.subplots(1, 2, width_ratios=(3, 2))
    axes.set_xscale("log")
    axes.set_yscale("log")
    for number, result in enumerate(shown, start=1):
        colour = BUILT_IN_COLOUR if result.built_in else OTHER_COLOUR
        point = (result.seconds, _drawn_error(result))
        axes.plot(
            [point[0]],
            [point[1]],
            "^" if result.stochastic else "o",
            markersize=6,
            markeredgecolor=colour,
            markerfacecolor=colour if result.built_in else "white",
        )
        axes.annotate(str(number), point, xytext=(5, 3), textcoords="offset points", fontsize=7)
        names.text(
            0, -number, f"{number}  {drawable_text(result.name, 64)}", fontsize=7, color=colour, parse_math=False
        )
    front = pareto_results(shown)
    axes.plot(
        [result.seconds for result in front],
        [_drawn_error(result) for result in front],
        color="0.4",
        linewidth=1,
        drawstyle="steps-post",
        zorder=1,
    )
    axes.axhline(TARGET_ERROR, color="0.7", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("relative error")
    axes.set_title(
        f"{drawable_text(found.network, 40)}: {drawable_text(found.quantity, 20)}", fontsize=9, parse_math=False
    )
    axes.grid(visible=True, color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    names.set_axis_off()
    names.set_xlim(0, 1)
    names.set_ylim(-max(len(shown), 1) - 0.5, 0)
    return figure


def pareto_results(results: Sequence[ContestantResult]) -> list[ContestantResult]:
    """The results than which no other is both faster and more exact, the fastest first."""
    known = [result for result in results if result.error is not None]
    return pareto_front(known, lambda result: (result.seconds, result.error or 0.0))


def _drawn_error(result: ContestantResult) -> float:
    return max(result.error or 0.0, MIN_DRAWN_ERROR)
