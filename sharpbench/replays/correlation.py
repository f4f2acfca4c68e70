"""Correlation: how columns of a table of networks order them by their gap, over all and within cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharpbench.analysis.statistics import Tau, marginal_tau, within_tau


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Kendall's tau of a column with the gap on the networks of one model; gated: of those alone that fitted."""

    model: str
    column: str
    gated: bool
    marginal: Tau
    within: Tau


def correlations(
    table: pd.DataFrame, columns: Sequence[str], *, gated: bool, cell: str = "label_noise"
) -> list[Correlation]:
    """A Correlation for each model and column, models in the order of the table.

    table: a row a network, with model, gap, fitted and `cell` beside `columns`. Networks of a model that are equal in
    `cell` are a cell. Networks without a value in a column do not enter it.
    """
    counted = table[table["fitted"]] if gated else table
    found = []
    for model in counted["model"].unique():
        for column in columns:
            rows = counted[(counted["model"] == model) & counted[column].notna() & counted["gap"].notna()]
            values, gaps = rows[column].to_numpy(np.float64), rows["gap"].to_numpy(np.float64)
            cells = np.unique(rows[cell], return_inverse=True)[1].astype(np.intp)
            taus = {"marginal": marginal_tau(values, gaps, cells), "within": within_tau(values, gaps, cells)}
            found.append(Correlation(model=model, column=column, gated=gated, **taus))
    return found
