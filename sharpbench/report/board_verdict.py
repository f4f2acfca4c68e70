"""The verdict on a board: what its ranks say, in sentences computed from the scores."""

from __future__ import annotations

from collections.abc import Sequence

from sharpbench.analysis.scores import Criterion, Score
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
    sentences = [_describe_first(ranked), _describe_baseline(rows, ranked)]
    if partial := sum(row.partial for row in measures):
        have = "measure has" if partial == 1 else "measures have"
        sentences.append(f"{partial} {have} no value on some networks and no rank.")
    return " ".join(filter(None, sentences))


def _describe_first(ranked: Sequence[Score]) -> str:
    if not ranked:
        return "No measure is ranked, because no tau has an interval."
    by = CRITERIA[ranked[0].ranked_by]
    first = [row for row in ranked if row.rank == 1]
    if len(first) == len(ranked) == 2:
        return f"{' and '.join(plain_text(row.name, MAX_NAME_CHARS) for row in first)} cannot be told apart by {by}."
    if len(first) == len(ranked) > 1:
        return f"No two of the {len(ranked)} ranked measures can be told apart by {by}."
    listed = ", ".join(plain_text(row.name, MAX_NAME_CHARS) for row in first[:MAX_LISTED])
    more = f" and {len(first) - MAX_LISTED} more" if len(first) > MAX_LISTED else ""
    rank = "ranks first" if len(first) == 1 else "share the first rank"
    return f"Of {len(ranked)} ranked measures {listed}{more} {rank} by {by}."


def _describe_baseline(rows: Sequence[Score], ranked: Sequence[Score]) -> str:
    """The best baseline, where no measure has a higher tau over all networks."""
    baseline = max((row for row in rows if row.kind == "baseline"), key=_marginal_tau, default=None)
    if not ranked or baseline is None or _marginal_tau(baseline) < max(map(_marginal_tau, ranked)):
        return ""
    found = format_correlation(_marginal_tau(baseline))
    return f"The baseline {baseline.name} has a tau over all networks of {found}; no measure has more."


def _marginal_tau(row: Score) -> float:
    """The tau over all networks; -1 where there is none."""
    return -1.0 if row.marginal.value is None else row.marginal.value
