"""The verdict on a board: what its ranks say, in sentences computed from the scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sharpbench.analysis.row_ranks import Criterion
from sharpbench.analysis.scores import Score
from sharpbench.analysis.statistics.power import POWER
from sharpbench.report.format import format_correlation, plain_text

MAX_LISTED = 6
"""Measures that the verdict names."""
MAX_NAME_CHARS = 40
CRITERIA: dict[Criterion, str] = {"within": "tau within cells", "marginal": "tau over all networks"}


def describe_verdict(rows: Sequence[Score]) -> str:
    """Which measures rank first on the board of one population, and whether a baseline does as well.

    One to three sentences. Measures share the first rank where no paired comparison tells them apart.
    """
    measures = [row for row in rows if row.kind == "measure"]
    ranked = [row for row in measures if row.rank is not None]
    sentences = [_describe_first(measures, ranked), _describe_baseline(rows, ranked)]
    if partial := sum(row.partial for row in measures):
        have = "measure has" if partial == 1 else "measures have"
        sentences.append(f"{partial} {have} no value on some networks and no rank.")
    return " ".join(filter(None, sentences))


def describe_power(rows: Sequence[Score]) -> str:
    """The difference of two taus that the board could have shown, in words; empty where no two measures are ranked."""
    known = next((row.detectable for row in rows if row.detectable is not None), None)
    if known is None:
        return ""
    share = f"{POWER:.0%}".replace("%", " %")
    return f"a difference of {format_correlation(known)} would be told apart in {share} of such populations"


def _describe_first(measures: Sequence[Score], ranked: Sequence[Score]) -> str:
    if not ranked:
        if measures and all(row.excluded == row.total for row in measures):
            return "No measure is ranked, because no network passed the gate."
        complete = [row for row in measures if not row.partial]
        if not complete:
            return "No measure is ranked."
        tau = "tau" if complete[0].ranked_by == "marginal" else CRITERIA["within"]
        return f"No measure is ranked, because no {tau} has an interval."
    by = CRITERIA[ranked[0].ranked_by]
    first = [row for row in ranked if row.rank == 1]
    names = [plain_text(row.name, MAX_NAME_CHARS) for row in first[:MAX_LISTED]]
    if len(ranked) == 1:
        return f"{names[0]} is the only ranked measure{_describe_chance(first)}."
    if len(first) == len(ranked) == 2:
        return f"{' and '.join(names)} cannot be told apart by {by}{_describe_chance(first)}."
    if len(first) == len(ranked):
        return f"No two of the {len(ranked)} ranked measures can be told apart by {by}{_describe_chance(first)}."
    if len(first) == 1:
        return f"Of {len(ranked)} ranked measures {names[0]} ranks first by {by}{_describe_chance(first)}."
    last = f"{len(first) - MAX_LISTED} more" if len(first) > MAX_LISTED else names.pop()
    shared = f"{', '.join(names)} and {last} share the first rank by {by}"
    return f"Of {len(ranked)} ranked measures {shared}{_describe_chance(first)}."


def _describe_chance(first: Sequence[Score]) -> str:
    """A remark where no measure of the first rank has an interval above 0: it does not order the networks."""
    found = (row.within if row.ranked_by == "within" else row.marginal for row in first)
    if any(tau.interval is not None and tau.interval.low > 0 for tau in found):
        return ""
    return ", but its interval is not above 0" if len(first) == 1 else ", and no interval of theirs is above 0"


def _describe_baseline(rows: Sequence[Score], ranked: Sequence[Score]) -> str:
    """The best baseline, where no ranked measure has a higher tau over all networks."""
    best = max((row for row in rows if row.kind == "baseline"), key=_marginal_tau, default=None)
    if not ranked or best is None or best.marginal.value is None:
        return ""
    if _marginal_tau(best) < max(map(_marginal_tau, ranked)):
        return ""
    found = format_correlation(best.marginal.value)
    return f"The baseline {best.name} has a tau over all networks of {found}; no ranked measure has more."


def _marginal_tau(row: Score) -> float:
    """The tau over all networks; below every tau where there is none."""
    return -math.inf if row.marginal.value is None else row.marginal.value
