"""Figure: what all figures have in common: fonts, names that can be drawn, files that are equal when redrawn."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from sharpbench.report.text import plain

FIXED: dict[str, Any] = {
    "svg.hashsalt": "sharpbench",
    "svg.fonttype": "path",
    "font.family": ["DejaVu Sans"],
    "axes.unicode_minus": False,
}
"""Settings that hold whatever the reader's own matplotlibrc says."""
UNDATED: dict[str, Any] = {"Date": None, "Creator": None}
"""Metadata of an SVG."""


@cache
def _glyphs() -> frozenset[int]:
    """The characters that the font can draw; any other would be a warning and a box."""
    return frozenset(get_font(findfont(FontProperties(family=["DejaVu Sans"]))).get_charmap())


def drawable(text: str, length: int) -> str:
    """`text` cut to `length`, with a question mark for what the font has not."""
    return "".join(character if ord(character) in _glyphs() else "?" for character in plain(text, length))


def vector(figure: Figure) -> str:
    """The figure as the text of an SVG, from its root element on; equal for equal figures."""
    canvas, buffer = FigureCanvasAgg(figure), io.StringIO()
    canvas.print_figure(buffer, format="svg", metadata=UNDATED | {"Format": None, "Type": None})
    text = buffer.getvalue()
    return text[text.index("<svg ") :]


def save(figure: Figure, stem: Path) -> list[Path]:
    """SVG and PNG under `stem`, without dates or versions."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, for both files
    paths = [stem.with_name(stem.name + suffix) for suffix in (".svg", ".png")]
    for path, metadata in zip(paths, (UNDATED, {"Software": None}), strict=True):
        canvas.print_figure(path, metadata=metadata)
    return paths
