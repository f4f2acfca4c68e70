"""The page about a landscape: what was drawn, what its plane holds of the trace, and the figure."""

from __future__ import annotations

from pathlib import Path

from sharpbench.landscapes.description import describe_landscape
from sharpbench.landscapes.figure import draw_landscape
from sharpbench.landscapes.html import render_html
from sharpbench.landscapes.loss_grid import LossGrid
from sharpbench.report.escape import escape_cell
from sharpbench.report.generated import write_files
from sharpbench.report.page import Block, Page, Picture, Section, write_page
from sharpbench.version import __version__

PAGE, HTML = "LANDSCAPE.md", "landscape.html"
MAX_NAME_CHARS = 60


def landscape_page(found: LossGrid) -> Page:
    """The page of the landscape."""
    name = f"Network: {escape_cell(found.name, MAX_NAME_CHARS)}."
    caption = "The loss over the plane." if found.options.dimensions == 2 else "The loss along the line."
    lines = [str(escape_cell(line, 400)) for line in describe_landscape(found)]
    blocks: tuple[Block, ...] = (*lines, Picture("landscape", caption, lambda: draw_landscape(found)))
    return Page("Loss landscape", (Section("", (name, *blocks)),))


def write_landscape(found: LossGrid, folder: Path) -> list[Path]:
    """Write the page, its figure as SVG and PNG, and the interactive page; their paths."""
    written = write_page(landscape_page(found), folder, name=PAGE, version=__version__, command="sharpbench landscape")
    return [*written, *write_files(folder, {HTML: render_html(found)}, remedy="choose another --output")]
