"""Plot: error against seconds of the contestants on one network, with the front that none surpasses in both."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from sharpbench.comparison.results import TARGET, NetworkResult, Result
from sharpbench.report.plots import drawable

LEAST = 1e-16
"""An error of 0 is drawn here."""


def pareto_front(standing: NetworkResult) -> Figure:
    """Filled marks are ours; circles are deterministic, triangles sampled; numbers are those of the list beside."""
    shown = [each for each in standing.results if each.error is not None]
    figure = Figure(figsize=(10.5, max(4.2, 1.0 + 0.17 * len(shown))), dpi=120, layout="constrained")
    axes, beside = figure.subplots(1, 2, width_ratios=(3, 2))
    axes.set_xscale("log")
    axes.set_yscale("log")
    for number, each in enumerate(shown, start=1):
        colour = "#1f5fa8" if each.ours else "#b0521e"
        place = (each.seconds, _drawn(each))
        axes.plot(
            [place[0]],
            [place[1]],
            "^" if each.stochastic else "o",
            markersize=6,
            markeredgecolor=colour,
            markerfacecolor=colour if each.ours else "white",
        )
        axes.annotate(str(number), place, xytext=(5, 3), textcoords="offset points", fontsize=7)
        beside.text(0, -number, f"{number}  {drawable(each.name, 64)}", fontsize=7, color=colour, parse_math=False)
    best = draw_front(shown)
    axes.plot(
        [each.seconds for each in best],
        [_drawn(each) for each in best],
        color="0.4",
        linewidth=1,
        drawstyle="steps-post",
        zorder=1,
    )
    axes.axhline(TARGET, color="0.7", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("relative error")
    axes.set_title(f"{drawable(standing.network, 40)}: {drawable(standing.quantity, 20)}", fontsize=9, parse_math=False)
    axes.grid(visible=True, color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    beside.set_axis_off()
    beside.set_xlim(0, 1)
    beside.set_ylim(-max(len(shown), 1) - 0.5, 0)
    return figure


def draw_front(results: Sequence[Result]) -> list[Result]:
    """Those than which none is both faster and better, the fastest first."""
    best: list[Result] = []
    for each in sorted(results, key=lambda each: (each.seconds, each.error)):
        if each.error is not None and (not best or each.error < (best[-1].error or 0.0)):
            best.append(each)
    return best


def _drawn(result: Result) -> float:
    return max(result.error or 0.0, LEAST)
