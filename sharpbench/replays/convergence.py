"""Convergence: minimum sharpness beside what the paper's solver makes of the same traces."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from sharpbench.replays.paper_solver import as_left_by_steps
from sharpbench.report.format import number

SOLVER = "minimum as left"
_LAYER = re.compile(r"tr layer(\d+)\.weight")


def with_solver(table: pd.DataFrame) -> pd.DataFrame:
    """`table` of networks with the column SOLVER: from the traces of the blocks, `tr layerI.weight` and `.bias`.

    Layers in the order of I; networks of one model at a time. NaN where the traces are not there.
    """
    left = pd.Series(np.nan, index=table.index)
    for _, rows in table.groupby("model"):
        known = rows.dropna(axis="columns", how="all").dropna(subset=["trace"])
        layers = sorted(int(found[1]) for name in known.columns if (found := _LAYER.fullmatch(name)))
        if layers and len(known):
            weights = known[[f"tr layer{layer}.weight" for layer in layers]].to_numpy(np.float64)
            biases = known.reindex(columns=[f"tr layer{layer}.bias" for layer in layers], fill_value=0.0)
            left[known.index] = as_left_by_steps(weights, biases.to_numpy(np.float64))
    return table.assign(**{SOLVER: left})


def by_noise(table: pd.DataFrame) -> pd.DataFrame:
    """Medians by model and label noise of the minimum, of what the solver leaves and of the trace, and the ratios."""
    rows = []
    for (model, noise), cell in table.groupby(["model", "label_noise"], sort=False):
        ratios = cell[SOLVER] / cell["minimum"]
        rows.append(
            {
                "network": str(model),
                "label noise": f"{noise:g}",
                "n": str(len(cell)),
                "trace": number(cell["trace"].median()),
                "paper's solver": number(cell[SOLVER].median()),
                "converged": number(cell["minimum"].median()),
                "solver / converged": f"{ratios.median():.3f} ({ratios.min():.3f} to {ratios.max():.3f})",
            }
        )
    return pd.DataFrame(rows)
