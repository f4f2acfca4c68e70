"""Frame: records as a table of networks, a row each, so that experiments and archives are read alike."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sharpbench.core.record import Record


def networks(records: Sequence[Record]) -> pd.DataFrame:
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
