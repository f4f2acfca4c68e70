"""The page about a landscape: what was drawn, what its plane holds of the trace, and the figure."""

from __future__ import annotations

from pathlib import Path

from sharpbench.landscapes.landscape import Landscape
from sharpbench.report.escape import escape_cell
from sharpbench.report.generated import write_files
from sharpbench.report.page import Block, Page, Picture, Section, write_page
from sharpbench.version import __version__

PAGE, HTML = "LANDSCAPE.md", "landscape.html"
MAX_NAME_CHARS = 60
BALANCES = {
    "unit": "at the network of the same function whose trace is least over rescalings of single units",
    "layer": "at the network of the same function whose trace is least over rescalings of layers",
    "none": "at the weights as they are, so that a rescaled copy of the network may give another picture",
}


def describe_landscape(found: Landscape) -> list[str]:
    """What the landscape is, in lines of plain text."""
    losses = found.losses[found.losses.isfinite()]
    points = " x ".join(str(len(axis)) for axis in found.grid)
    span = f"{losses.min():.4g} to {losses.max():.4g}" if len(losses) else "not finite"
    lines = [
        f"Loss on {points} points, mean over {found.examples:,} examples, from {span}.",
        f"Directions: {found.options.directions}, drawn {BALANCES[found.options.balance]}.",
    ]
    lost = found.losses.numel() - len(losses)
    if lost:
        lines.append(f"The loss is not finite at {lost} points, which are left empty.")
    share = found.share
    if share is not None:
        what = "plane" if found.options.dimensions == 2 else "line"
        each = "not stated, as the trace or the curvature along the directions is not above 0"
        if share.share is not None:
            each = f"{_percent(share.share)} of it"
        lines.append(
            f"Trace of the Hessian {share.trace:.4g}; the {what} holds {share.held:.4g}, {each}. A uniformly random "
            f"{what} holds {_percent(share.expected)} on average."
        )
    lines += [f"{fact[:1].upper()}{fact[1:]}." for fact in found.facts]
    if len(found.marks) > 1 and max(mark.distance for mark in found.marks) > 0:
        lines.append(
            f"Largest distance of a checkpoint from the plane {max(mark.distance for mark in found.marks):.3g}."
        )
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def landscape_page(found: Landscape) -> Page:
    """The page of the landscape."""
    name = f"Network: {escape_cell(found.name, MAX_NAME_CHARS)}."
    caption = "The loss over the plane." if found.options.dimensions == 2 else "The loss along the line."
    lines = [str(escape_cell(line, 400)) for line in describe_landscape(found)]
    blocks: tuple[Block, ...] = (*lines, Picture("landscape", caption, lambda: found.draw()))
    return Page("Loss landscape", (Section("", (name, *blocks)),))


def write_landscape(found: Landscape, folder: Path) -> list[Path]:
    """Write the page, its figure as SVG and PNG, and the interactive page; their paths."""
    written = write_page(landscape_page(found), folder, name=PAGE, version=__version__, command="sharpbench landscape")
    return [*written, *write_files(folder, {HTML: found.to_html()}, remedy="choose another --output")]
