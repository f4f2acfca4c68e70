"""Tables: correlations and differences as readers see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from sharpbench.analysis.statistics import Difference, Tau
from sharpbench.replays.correlation import Correlation
from sharpbench.report.format import MISSING

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
