"""The paper's solver, which minimizes sharpness by gradient descent and stops above the minimum.

Implemented anew from the description of their solver (Ibayashi, Hamaguchi, Imaizumi 2021), not their code.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sharpbench.report.format import format_number

SOLVER_COLUMN = "minimum as left"
_LAYER = re.compile(r"tr layer(\d+)\.weight")


def add_solver_column(table: pd.DataFrame) -> pd.DataFrame:
    """The table of networks with an additional column SOLVER_COLUMN: the value that the paper's solver leaves.

    It is computed from the traces of the blocks, the columns `tr layerI.weight` and `tr layerI.bias`; NaN without them.
    """
    left = pd.Series(np.nan, index=table.index)
    for _, rows in table.groupby("model"):
        known = rows.dropna(axis="columns", how="all").dropna(subset=["trace"])
        layers = sorted(int(found[1]) for name in known.columns if (found := _LAYER.fullmatch(name)))
        if layers and len(known):
            weights = known[[f"tr layer{layer}.weight" for layer in layers]].to_numpy(np.float64)
            biases = known.reindex(columns=[f"tr layer{layer}.bias" for layer in layers], fill_value=0.0)
            left[known.index] = run_paper_solver(weights, biases.to_numpy(np.float64))
    return table.assign(**{SOLVER_COLUMN: left})


def noise_table(table: pd.DataFrame) -> pd.DataFrame:
    """Medians of trace, solver's value and minimum by model and label noise, and the ratio of the last two."""
    rows = []
    for (model, noise), cell in table.groupby(["model", "label_noise"], sort=False):
        ratios = cell[SOLVER_COLUMN] / cell["minimum"]
        rows.append(
            {
                "network": str(model),
                "label noise": f"{noise:g}",
                "n": str(len(cell)),
                "trace": format_number(cell["trace"].median()),
                "paper's solver": format_number(cell[SOLVER_COLUMN].median()),
                "converged": format_number(cell["minimum"].median()),
                "solver / converged": f"{ratios.median():.3f} ({ratios.min():.3f} to {ratios.max():.3f})",
            }
        )
    return pd.DataFrame(rows)


Array = NDArray[np.float64]
STEP_SIZE, STEPS, STEP_SIZE_DECAY = 1e-3, 10_000, 1e-3


def run_paper_solver(weights: Array, biases: Array, *, rate: float = STEP_SIZE, steps: int = STEPS) -> Array:
    """The objective before the last of `steps` steps of gradient descent, for N networks at once: [N].

    The objective is sum_l w_l exp(-2 e_l) + c_l exp(-2 u_l) with u_l = e_1 + ... + e_l and u_L = 0, where w and c are
    the traces over their sum. Descent starts from e = 0 with step size `rate` / (1 + 1e-3 step).

    Args:
        weights: traces of the weight blocks of a chain of L layers, [N, L].
        biases: traces of the bias blocks, [N, L]; zeros for layers without biases.
        rate: the initial step size.
        steps: the number of steps.

    >>> run_paper_solver(np.array([[4.0, 4.0]]), np.zeros((1, 2)), steps=10)
    array([8.])
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
        e = e - rate / (1 + STEP_SIZE_DECAY * step) * (-2 * own - 2 * after + 2 * last[:, None])
    left: Array = value * scale
    return left
