"""The interactive page of a landscape, one file without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import math
from importlib.resources import files

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import colormaps

from sharpbench.landscapes.description import describe_landscape
from sharpbench.landscapes.figure import COLOR_MAP, is_logarithmic
from sharpbench.landscapes.loss_grid import LossGrid
from sharpbench.report.format import plain_text
from sharpbench.version import __version__

COLORS = 64
"""Steps of the color map in the page."""
MAX_TITLE_CHARS, MAX_NAME_CHARS = 120, 40


def render_html(found: LossGrid) -> str:
    """The page as text. Names of networks and checkpoints are escaped; a policy forbids scripts other than its own."""
    folder = files("sharpbench.landscapes") / "templates"
    script, sheet = ((folder / name).read_text(encoding="utf-8") for name in ("landscape.js", "landscape.css"))
    pages = Environment(loader=PackageLoader("sharpbench.landscapes"), autoescape=True, undefined=StrictUndefined)
    pages.policies["json.dumps_kwargs"] = {"allow_nan": False, "sort_keys": True, "separators": (",", ":")}
    losses = found.losses.numpy().reshape(len(found.grid[-1]), -1)
    ramp = (255 * colormaps[COLOR_MAP](np.linspace(0, 1, COLORS))[:, :3]).round().astype(int)
    data = {
        "losses": [[float(f"{loss:.6g}") if math.isfinite(loss) else None for loss in row] for row in losses],
        "grid": [list(axis) for axis in found.grid],
        "labels": list(found.labels),
        "marks": [{"name": plain_text(mark.name, MAX_NAME_CHARS), "place": list(mark.place)} for mark in found.marks],
        "colors": ramp.tolist(),
        "logarithmic": is_logarithmic(losses),
    }
    return pages.get_template("landscape.html.jinja").render(
        version=__version__,
        title=plain_text(found.name, MAX_TITLE_CHARS),
        lines=describe_landscape(found),
        data=data,
        script=script,
        sheet=sheet,
        hashes={name: _hash(text) for name, text in (("script", script), ("sheet", sheet))},
    )


def _hash(text: str) -> str:
    """The hash by which a Content-Security-Policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
