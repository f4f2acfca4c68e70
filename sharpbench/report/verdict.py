"""Verdict: what recomputing a sample of a submission found, for the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sharpbench.leaderboard.submissions import Finding, Verdict
from sharpbench.report.format import MISSING, error, plain

WIDTH = 140
"""Of a table that goes to a file."""
WORDS = {
    "verified": "verified: every value that could be compared agrees",
    "claimed": "claimed: no value could be compared here",
    "refuted": "refuted",
}


def show(verdict: Verdict, console: Console) -> None:
    """Print a row a number, claimed and found, and the state."""
    if not console.is_terminal:
        console = Console(file=console.file, width=max(WIDTH, console.width))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("network", "number"):
        table.add_column(heading, overflow="fold")
    for heading in ("claimed", "found", "difference", "bound"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for finding in verdict.findings:
        table.add_row(*map(Text, _row(finding)))
    console.print(table, crop=False)
    for line in (*_reasons(verdict), summary(verdict)):
        console.print(Text(plain(line, 400)), soft_wrap=True)


def summary(verdict: Verdict) -> str:
    """The state in a line, with how many values were compared."""
    counts = dict.fromkeys(("agrees", "differs", "parted", "unknown"), 0)
    for finding in verdict.findings:
        counts[finding.outcome] += finding.what == "value"
    others = sum(finding.what != "value" and finding.outcome == "differs" for finding in verdict.findings)
    told = (
        f"{counts['agrees']} values agree, {counts['differs']} differ, {counts['parted']} stand on networks that part "
        f"in training, {counts['unknown']} could not be recomputed"
    ) + (f"; {others} other numbers differ" if others else "")
    return f"{verdict.name} is {WORDS[verdict.state]}; {told}"


def _row(finding: Finding) -> tuple[str, ...]:
    number = plain(finding.label, 60) if finding.what == "value" else plain(finding.what, 30)
    off = MISSING if finding.difference is None else error(finding.difference)
    values = (_number(finding.claimed), _number(finding.found), off)
    bound = MISSING if finding.bound is None else error(finding.bound)
    return plain(finding.network, 80), number, *values, bound, finding.outcome


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.8g}"


def _reasons(verdict: Verdict) -> list[str]:
    """Each reason once, with the numbers that it concerns."""
    found: dict[str, list[str]] = {}
    for finding in verdict.findings:
        if finding.reason:
            number = finding.label if finding.what == "value" else finding.what
            found.setdefault(f"{finding.outcome}: {finding.reason}", []).append(number)
    return [f"{', '.join(dict.fromkeys(labels))}: {reason}" for reason, labels in found.items()]
