"""The page about a spectrum: tables of eigenvalues, and figures of batches and of the density."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from sharpbench.curvature import smooth_density
from sharpbench.curvature.eigenpairs import Eigenpairs
from sharpbench.curvature.spectrum import Spectrum
from sharpbench.report.escape import escape_cell
from sharpbench.report.format import plain_text
from sharpbench.report.page import Block, Page, Picture, Section

MAX_NAME_CHARS = 60
MAX_COLUMNS = 5
"""Eigenvalues of a block that its row shows."""
LINE_COLOR, POINT_COLOR = "#31688e", "#35b779"
FLOOR = 1e-7
"""The least density that is drawn, relative to the largest."""


def describe_spectrum(found: Spectrum, title: str) -> Page:
    """The page of the spectrum."""
    matrix = "Hessian" if found.kind == "hessian" else "Gauss-Newton matrix"
    text = f"Network: {escape_cell(title, MAX_NAME_CHARS)}. "
    text += f"Largest eigenvalues of the {matrix} of the mean loss by {found.size:,} parameters."
    if found.ratio is not None:
        text += f" The first divided by the fifth: {found.ratio:.4g}."
    table = pd.DataFrame(
        [
            {"rank": str(rank), "eigenvalue": f"{value:.6g}", "residual": f"{residual:.1e}"}
            for rank, (value, residual) in enumerate(
                zip(found.whole.values.tolist(), found.whole.residuals.tolist(), strict=True), start=1
            )
        ]
    )
    blocks: list[Block] = [text, "residual: an eigenvalue is at most that far away.", table]
    if found.unconverged:
        named = ", ".join(str(escape_cell(each, 40)) for each in found.unconverged[:8])
        blocks.append(f"Not within the tolerance: {named}. More products or a larger tolerance are needed.")
    sections = [Section("", tuple(blocks))]
    if found.batches:
        sections.append(_batch_section(found))
    if found.blocks:
        sections.append(_block_section(found))
    if found.density is not None:
        sections.append(_density_section(found))
    return Page("Spectrum", tuple(sections))


def _batch_section(found: Spectrum) -> Section:
    values = found.batch_values
    rows = [
        {
            "rank": str(rank),
            "least": f"{column.min():.4g}",
            "median": f"{column.median():.4g}",
            "mean": f"{column.mean():.4g}",
            "largest": f"{column.max():.4g}",
        }
        for rank, column in enumerate(values.T, start=1)
    ]
    text = f"The same of the loss of each of {len(values)} batches: least, median, mean and largest over the batches."
    picture = Picture("spectrum-batches", "The eigenvalues of each batch by rank.", lambda: draw_batches(found))
    return Section("Batches", (text, pd.DataFrame(rows), picture))


def _block_section(found: Spectrum) -> Section:
    shown = min(MAX_COLUMNS, len(found.eigenvalues))
    rows = []
    for name, block in found.blocks.items():
        values = [f"{value:.4g}" for value in block.values[:shown].tolist()]
        cells = dict(zip([f"{rank}" for rank in range(1, shown + 1)], [*values, *["-"] * shown], strict=False))
        rows.append({"block": plain_text(name, MAX_NAME_CHARS), **cells})
    text = "The largest eigenvalues of each diagonal block of parameters, by rank."
    return Section("Blocks", (text, pd.DataFrame(rows)))


def _density_section(found: Spectrum) -> Section:
    assert found.density is not None
    traces = found.size * found.density.mean()
    spread = f" with standard deviation {traces.std():.2g}" if len(traces) > 1 else ""
    text = (
        f"Density of all {found.size:,} eigenvalues by stochastic Lanczos quadrature, {len(traces)} random vectors. "
        f"Its mean times their number is the trace, {traces.mean():.4g}{spread} over the vectors."
    )
    picture = Picture("spectrum-density", "The density of the eigenvalues.", lambda: draw_density(found))
    return Section("Density", (text, picture))


def draw_batches(found: Spectrum) -> Figure:
    """The eigenvalues of each batch by rank, those of the whole loss as a line."""
    figure = Figure(figsize=(6.4, 3.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for column, ranked in enumerate(found.batch_values.T, start=1):
        count = len(ranked)
        offsets = [column + 0.3 * (place / max(1, count - 1) - 0.5) for place in range(count)]
        label = "batches" if column == 1 else None
        axes.plot(offsets, ranked.tolist(), ".", color=POINT_COLOR, markersize=4, label=label)
    ranks = range(1, len(found.eigenvalues) + 1)
    axes.plot(ranks, found.eigenvalues.tolist(), "_-", color=LINE_COLOR, linewidth=1.1, label="all examples")
    axes.set_xticks(list(ranks)[:: max(1, len(ranks) // 10)])
    axes.set_xlabel("rank", fontsize=9)
    axes.set_ylabel("eigenvalue", fontsize=9)
    _finish(axes)
    return figure


def draw_density(found: Spectrum) -> Figure:
    """The smoothed density over the spectrum, logarithmic."""
    assert found.density is not None
    grid, values = smooth_density(found.density)
    figure = Figure(figsize=(6.4, 3.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(grid.tolist(), values.tolist(), color=LINE_COLOR, linewidth=1.3, label="density")
    axes.set_yscale("log")
    axes.set_ylim(bottom=FLOOR * float(values.max()))
    tops = found.eigenvalues.tolist()
    base = [FLOOR * float(values.max()) * 1.5] * len(tops)
    axes.plot(tops, base, "|", color=POINT_COLOR, markersize=11, label=f"{len(tops)} largest")
    axes.set_xlabel("eigenvalue", fontsize=9)
    axes.set_ylabel("density", fontsize=9)
    _finish(axes)
    return figure


def _finish(axes: Any) -> None:
    axes.legend(fontsize=8, frameon=False)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def spectrum_data(found: Spectrum, title: str) -> str:
    """One JSON object with all numbers of the spectrum; the density as nodes and weights by random vector."""

    def values(each: Eigenpairs) -> dict[str, object]:
        return {
            "values": each.values.tolist(),
            "residuals": each.residuals.tolist(),
            "products": each.products,
            "converged": each.converged,
        }

    density = found.density
    return json.dumps(
        {
            "network": title,
            "matrix": found.kind,
            "parameters": found.size,
            "eigenvalues": values(found.whole),
            "ratio_1_5": found.ratio,
            "batches": [values(each) for each in found.batches.values()],
            "blocks": {name: values(each) for name, each in found.blocks.items()},
            "density": None
            if density is None
            else {"nodes": density.nodes.tolist(), "weights": density.weights.tolist()},
        },
        allow_nan=False,
    )
