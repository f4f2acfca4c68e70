"""Tables: correlations and differences as readers see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharpbench.analysis.costs import environment_text
from sharpbench.analysis.statistics import Difference, Tau, marginal_tau, within_tau
from sharpbench.core.record import Record
from sharpbench.report.escape import escape_cell
from sharpbench.report.format import MISSING
from sharpbench.report.page import Section

# Surroundings: where the numbers of a replay come from, as its last section.


def environment_section(records: Sequence[Record], source: str) -> Section:
    """The paper, and the environments in which the records were made."""
    found = sorted({environment_text(record.environment) for record in records if record.environment})
    return Section("Source and environment", (f"{source}.", *(str(escape_cell(text, 400)) for text in found)))


# Frame: records as a table of networks, a row each, so that experiments and archives are read alike.


def networks_frame(records: Sequence[Record]) -> pd.DataFrame:
    """A row a network in the order of the records: its recipe, its truth, and a column for each measure.

    Columns of measures are called by their labels; NaN where there is no value. `tr PARAMETER` holds what a
    parameter contributes to the trace, where that was measured.
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
        table["fitted"] = table["fitted"].eq(True)  # a network that could not be trained has no truth
    return table


# Correlation: how columns of a table of networks order them by their gap, over all and within cells.


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """Kendall's tau of a column with the gap on the networks of one model; gated: of those alone that fitted."""

    model: str
    column: str
    gated: bool
    marginal: Tau
    within: Tau


def table_correlations(
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


Names = Mapping[str, str]
"""The columns that are shown, by their names in the data."""


def tau_text(tau: Tau) -> str:
    """Three decimals, and two for the ends of the interval."""
    if tau.value is None:
        return MISSING
    held = "" if tau.interval is None else f" [{tau.interval.low + 0.0:.2f}, {tau.interval.high + 0.0:.2f}]"
    return f"{tau.value + 0.0:.3f}{held}"


def difference_text(difference: Difference, *, unit: float = 1.0) -> str:
    """A signed mean in `unit` with its interval, two decimals."""
    if difference.value is None:
        return MISSING
    value = _signed(difference.value / unit)
    if difference.interval is None:
        return value
    return f"{value} [{_signed(difference.interval.low / unit)}, {_signed(difference.interval.high / unit)}]"


def _signed(value: float) -> str:
    """Two decimals; never -0.00."""
    return f"{round(value, 2) + 0.0:+.2f}"


def both_gates(free: Sequence[Correlation], gated: Sequence[Correlation], names: Names) -> pd.DataFrame:
    """A row for each network and measure: tau and tau within cells, of all networks and of those that fitted."""
    rows = []
    for one, other in zip(free, gated, strict=True):
        rows.append(
            {
                "network": one.model,
                "measure": names[one.column],
                "n": str(one.marginal.networks),
                "tau": tau_text(one.marginal),
                "tau within": tau_text(one.within),
                "n fitted": str(other.marginal.networks),
                "tau fitted": tau_text(other.marginal),
                "tau within fitted": tau_text(other.within),
            }
        )
    return pd.DataFrame(rows)


def side_by_side(
    published: Sequence[Correlation], alike: Sequence[Correlation], here: Sequence[Correlation], names: Names
) -> pd.DataFrame:
    """A row for each network and measure here: tau as published, so at the ratios that are also here, here, the change.

    published, alike: of the archive, by the same columns. Measures that it has not have dashes.
    """
    rows = []
    for kind in ("marginal", "within"):
        for each in here:
            theirs = [_of(found, each, kind) for found in (published, alike)]
            mine: Tau = getattr(each, kind)
            rows.append(
                {
                    "network": each.model,
                    "measure": names[each.column],
                    "over": "all networks" if kind == "marginal" else "equal label noise",
                    "archive": tau_text(theirs[0]) if theirs[0] else MISSING,
                    "archive, these ratios": tau_text(theirs[1]) if theirs[1] else MISSING,
                    "here": tau_text(mine),
                    "here - archive": _gap(mine, theirs[1]),
                }
            )
    return pd.DataFrame(rows)


def with_loss(published: Sequence[Correlation], here: Sequence[Correlation], *, names: Names) -> pd.DataFrame:
    """A row for each network and column: tau over all networks, as published and here."""
    rows = []
    for each in here:
        theirs = _of(published, each, "marginal")
        rows.append(
            {
                "network": each.model,
                "with the training loss": names[each.column],
                "archive": tau_text(theirs) if theirs else MISSING,
                "here": tau_text(each.marginal),
            }
        )
    return pd.DataFrame(rows)


def _of(found: Sequence[Correlation], like: Correlation, kind: str) -> Tau | None:
    return next((getattr(each, kind) for each in found if (each.model, each.column) == (like.model, like.column)), None)


def _gap(mine: Tau, theirs: Tau | None) -> str:
    if theirs is None or mine.value is None or theirs.value is None:
        return MISSING
    return f"{mine.value - theirs.value:+.3f}"
