"""Notes below a board: what its cells leave out, and why."""

from __future__ import annotations

from collections.abc import Sequence

from sharpbench.analysis.scores import Score
from sharpbench.report.columns import STATISTICS


def board_notes(scores: Sequence[Score]) -> list[tuple[str, list[str]]]:
    """Each reason why a cell of a table is incomplete, with the names of the rows that it concerns."""
    found: dict[str, list[str]] = {}
    for row in scores:
        for reason in _reasons(row):
            found.setdefault(reason, []).append(row.name)
    return list(found.items())


def _reasons(row: Score) -> list[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for name, read in STATISTICS.items():
        each = read(row)
        if each.reason is not None and (each.value is None or each.interval is None) and row.networks:
            found.setdefault(("no" if each.value is None else "no interval of", each.reason), []).append(name)
    reasons = [f"{missing} {', '.join(whats)}: {reason}" for (missing, reason), whats in found.items()]
    if row.within.value is not None and row.within.cells < row.marginal.cells:
        reasons.append(f"tau within from {row.within.cells} of {row.marginal.cells} cells, undefined in the others")
    signs = row.correlations.signs
    if signs.worst is not None and signs.left_out:
        reasons.append(f"sign errors from {signs.environments} of {signs.environments + signs.left_out} environments")
    if row.contended:
        reasons.append(f"{row.contended} timed next to other work or in pieces, left out of seconds and gradients")
    if row.converged is not None and row.converged < 1:
        reasons.append(f"converged on only {row.converged:.0%} of the networks")
    return reasons
