"""Tables and sections that several replays share: networks, correlations with the gap, differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharpbench.analysis.costs import format_environment
from sharpbench.analysis.statistics import Difference, Tau, marginal_tau, within_tau
from sharpbench.core.record import Record
from sharpbench.report.escape import escape_cell
from sharpbench.report.format import MISSING, format_interval
from sharpbench.report.page import Section


def environment_section(records: Sequence[Record], source: str) -> Section:
    """The last section of a page: the paper, and the environments in which the records were made."""
    found = sorted({format_environment(record.environment) for record in records if record.environment})
    return Section("Source and environment", (f"{source}.", *(str(escape_cell(text, 400)) for text in found)))


def networks_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row per network, in the order of the records: its recipe, its training result and its measures.

    The column of a measure has the measure's label as its name, and NaN where there is no value. If the trace was
    measured, the column `tr PARAMETER` holds the contribution of each parameter.
    """
    rows: dict[tuple[object, ...], dict[str, object]] = {}
    for record in records:
        row = rows.setdefault(tuple(sorted(record.recipe.items())), {})
        row.update(record.recipe)
        row.update(record.truth)
        row[record.label] = record.value if record.status == "ok" else None
        if record.label == "trace" and record.status == "ok":
            row.update({f"tr {name}": value for name, value in record.parts.items()})
    table = pd.DataFrame(list(rows.values()))
    labels = {record.label for record in records}
    numbers = [name for name in table.columns if name in labels or name.startswith("tr ")]
    table[numbers] = table[numbers].astype(float)
    if "fitted" in table:
        table["fitted"] = table["fitted"].eq(True)  # a network that could not be trained has no training result
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class GapCorrelation:
    """Kendall's tau of a column with the gap on the networks of one model.

    Args:
        model: the model.
        column: the column.
        gated: whether only the networks that fitted are counted.
        marginal: tau over all networks.
        within: the mean tau within cells of networks with equal label noise (or another column).
    """

    model: str
    column: str
    gated: bool
    marginal: Tau
    within: Tau


def compute_correlations(
    table: pd.DataFrame, columns: Sequence[str], *, gated: bool, cell: str = "label_noise"
) -> list[GapCorrelation]:
    """One correlation for each model and column, models in the order of the table.

    Args:
        table: one row per network, with model, gap, fitted, `cell` and `columns`.
        columns: the columns; networks without a value in a column are left out of it.
        gated: whether only the networks that fitted are counted.
        cell: the column that is constant within a cell.
    """
    counted = table[table["fitted"]] if gated else table
    found = []
    for model in counted["model"].unique():
        for column in columns:
            rows = counted[(counted["model"] == model) & counted[column].notna() & counted["gap"].notna()]
            values, gaps = rows[column].to_numpy(np.float64), rows["gap"].to_numpy(np.float64)
            cells = np.unique(rows[cell], return_inverse=True)[1].astype(np.intp)
            taus = {"marginal": marginal_tau(values, gaps, cells), "within": within_tau(values, gaps, cells)}
            found.append(GapCorrelation(model=model, column=column, gated=gated, **taus))
    return found


ColumnNames = Mapping[str, str]
"""Titles of the columns that are shown, by their names in the data."""


def format_tau(tau: Tau) -> str:
    """Tau with three decimals, and its interval with two; a dash without a value."""
    if tau.value is None:
        return MISSING
    return f"{tau.value + 0.0:.3f}{format_interval(tau.interval)}"


def format_difference(difference: Difference, *, unit: float = 1.0) -> str:
    """The signed mean difference in multiples of `unit` with its interval, two decimals each."""
    if difference.value is None:
        return MISSING
    value = _format_signed(difference.value / unit)
    if difference.interval is None:
        return value
    return (
        f"{value} [{_format_signed(difference.interval.low / unit)}, {_format_signed(difference.interval.high / unit)}]"
    )


def _format_signed(value: float) -> str:
    """Two decimals; never -0.00."""
    return f"{round(value, 2) + 0.0:+.2f}"


def gating_table(free: Sequence[GapCorrelation], gated: Sequence[GapCorrelation], names: ColumnNames) -> pd.DataFrame:
    """One row per model and measure: tau and tau within cells, for all networks and for those that fitted."""
    rows = []
    for one, other in zip(free, gated, strict=True):
        rows.append(
            {
                "network": one.model,
                "measure": names[one.column],
                "n": str(one.marginal.networks),
                "tau": format_tau(one.marginal),
                "tau within": format_tau(one.within),
                "n fitted": str(other.marginal.networks),
                "tau fitted": format_tau(other.marginal),
                "tau within fitted": format_tau(other.within),
            }
        )
    return pd.DataFrame(rows)


def archive_table(
    published: Sequence[GapCorrelation],
    alike: Sequence[GapCorrelation],
    here: Sequence[GapCorrelation],
    names: ColumnNames,
) -> pd.DataFrame:
    """One row per model and measure: tau in the archive, in the archive at the same ratios, here, and the change.

    Args:
        published: correlations of the archive.
        alike: correlations of the archive's networks at the ratios of label noise that were also trained here.
        here: correlations of this replay; measures that the archive lacks have dashes.
        names: titles of the measures.
    """
    rows = []
    for kind in ("marginal", "within"):
        for each in here:
            theirs = [_find_tau(found, each, kind) for found in (published, alike)]
            mine: Tau = getattr(each, kind)
            rows.append(
                {
                    "network": each.model,
                    "measure": names[each.column],
                    "over": "all networks" if kind == "marginal" else "equal label noise",
                    "archive": format_tau(theirs[0]) if theirs[0] else MISSING,
                    "archive, these ratios": format_tau(theirs[1]) if theirs[1] else MISSING,
                    "here": format_tau(mine),
                    "here - archive": _format_change(mine, theirs[1]),
                }
            )
    return pd.DataFrame(rows)


def loss_table(
    published: Sequence[GapCorrelation], here: Sequence[GapCorrelation], *, names: ColumnNames
) -> pd.DataFrame:
    """One row per model and column: tau with the training loss over all networks, in the archive and here."""
    rows = []
    for each in here:
        theirs = _find_tau(published, each, "marginal")
        rows.append(
            {
                "network": each.model,
                "with the training loss": names[each.column],
                "archive": format_tau(theirs) if theirs else MISSING,
                "here": format_tau(each.marginal),
            }
        )
    return pd.DataFrame(rows)


def _find_tau(found: Sequence[GapCorrelation], like: GapCorrelation, kind: str) -> Tau | None:
    return next((getattr(each, kind) for each in found if (each.model, each.column) == (like.model, like.column)), None)


def _format_change(mine: Tau, theirs: Tau | None) -> str:
    if theirs is None or mine.value is None or theirs.value is None:
        return MISSING
    return f"{mine.value - theirs.value:+.3f}"
