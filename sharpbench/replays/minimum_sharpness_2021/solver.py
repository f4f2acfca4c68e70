"""Paper's solver: minimum sharpness as its authors minimise it, which stops above the minimum.

Implemented anew from the description of their solver (Ibayashi, Hamaguchi, Imaizumi 2021), not their code.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sharpbench.report.format import format_number

# Convergence: minimum sharpness beside what the paper's solver makes of the same traces.

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
                "trace": format_number(cell["trace"].median()),
                "paper's solver": format_number(cell[SOLVER].median()),
                "converged": format_number(cell["minimum"].median()),
                "solver / converged": f"{ratios.median():.3f} ({ratios.min():.3f} to {ratios.max():.3f})",
            }
        )
    return pd.DataFrame(rows)


Array = NDArray[np.float64]
RATE, STEPS, DECAY = 1e-3, 10_000, 1e-3


def as_left_by_steps(weights: Array, biases: Array, *, rate: float = RATE, steps: int = STEPS) -> Array:
    """The objective that gradient descent leaves after `steps`, of N networks at once: [N].

    weights, biases: the traces of the blocks of a chain of L layers, [N, L], zeros for biases that are not there.
    The objective is sum_l w_l exp(-2 e_l) + c_l exp(-2 u_l), u_l = e_1 + ... + e_l, u_L = 0, of the traces over
    their sum; from e = 0 with the rate `rate` / (1 + 1e-3 step); the value is the one before the last step.
    """
    scale = weights.sum(axis=1) + biases.sum(axis=1)
    w, c = weights / scale[:, None], biases / scale[:, None]
    e = np.zeros((len(w), w.shape[1] - 1))
    value = np.ones(len(w))
    for step in range(steps):
        u = e.cumsum(axis=1)
        own, biased = w[:, :-1] * np.exp(-2 * e), c[:, :-1] * np.exp(-2 * u)
        last = w[:, -1] * np.exp(2 * u[:, -1]) if e.shape[1] else w[:, -1]
        value = own.sum(axis=1) + biased.sum(axis=1) + last + c[:, -1]
        after = biased[:, ::-1].cumsum(axis=1)[:, ::-1]  # sum over the layers from this one on
        e = e - rate / (1 + DECAY * step) * (-2 * own - 2 * after + 2 * last[:, None])
    left: Array = value * scale
    return left
