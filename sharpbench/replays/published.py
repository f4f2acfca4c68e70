"""Published: what the authors' archive says of speed, beside what is measured here."""

from __future__ import annotations

import pandas as pd

from sharpbench.report.format import MISSING, error, number

SECONDS = {"small-mlp": (11.94, 0.0197), "small-cnn": (21.47, 0.336)}
"""Naive and proposed, n = 1,000, on a GPU of theirs: the mean of the first two of the archive's ten networks each."""


def speed_table(rows: pd.DataFrame, entries: pd.DataFrame) -> tuple[pd.DataFrame, str, pd.DataFrame, str]:
    """Accuracy, seconds, and a line on each."""
    accuracy = pd.DataFrame(
        {
            "network": row["model"],
            "parameters": f"{row['parameters']:,.0f}",
            "trace": number(row["trace"]),
            "error, exact": error(row["error_exact"]),
            "error, paper": error(row["error_paper"]),
            "error, paper in float64": error(row["error_paper_double"]),
            "largest error of an entry": error(_largest(entries[entries["model"] == row["model"]])),
        }
        for row in rows.to_dict("records")
    )
    seconds = pd.DataFrame(
        {
            "network": row["model"],
            "exact s": number(row["seconds_exact"]),
            "paper s": f"{number(row['seconds_paper'])} @{row['batch_paper']:.0f}",
            "naive s, scaled": number(row["seconds_naive"]),
            "paper / exact": number(row["seconds_paper"] / row["seconds_exact"]),
            "naive / exact": number(row["seconds_naive"] / row["seconds_exact"]),
            "naive / paper": number(row["seconds_naive"] / row["seconds_paper"]),
            "archive: naive / paper": _published(row["model"]),
        }
        for row in rows.to_dict("records")
    )
    return (
        accuracy,
        "The paper's algorithm subtracts two numbers that are nearly equal where a network is confident, and loses "
        "digits in float32; in float64 all agree. The last column is relative to the largest entry drawn.",
        seconds,
        "After @: the batch size. The archive's figures are of a GPU (naive 11.9 s and 21.5 s, proposed 0.020 s and "
        "0.34 s, the means of its first two networks of each kind): only ratios compare.",
    )


def _largest(entries: pd.DataFrame) -> float:
    """The largest |exact - naive| over the largest |naive|."""
    scale = float(entries["naive"].abs().max())
    return float((entries["exact"] - entries["naive"]).abs().max()) / (scale or 1.0)


def _published(model: str) -> str:
    if model not in SECONDS:
        return MISSING
    naive, proposed = SECONDS[model]
    return number(naive / proposed)


def diagonal_table(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each network and kind: the error at each number of samples, and what the last makes of the measure."""
    rows = []
    for (model, kind), curve in found.groupby(["model", "kind"], sort=False):
        last = curve.iloc[-1]
        rows.append(
            {
                "network": str(model),
                "diagonal": str(kind),
                **{f"{row['samples']:,}": number(row["error"]) for row in curve.to_dict("records")},
                "negative": f"{last['negative']:.0%}",
                "normalized / exact": number(last["value"]),
                "seconds": number(last["seconds"]),
            }
        )
    return pd.DataFrame(rows)
