"""`sharpbench validate`: runs the contract suite on measures of a file or package."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.exits import EXIT_FAILED
from sharpbench.cli.options import JsonArrayOption, ProbeSeedOption

if TYPE_CHECKING:
    from rich.console import Console

    from sharpbench.testing.examination import Check, Outcome


def validate(
    target: Annotated[
        str, typer.Argument(help="A Python file, which is executed, or the name of an installed package or module.")
    ],
    measures: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated, with parameters: 'weight-norm\\[p=1]'.", show_default="all, at their defaults"
        ),
    ] = None,
    seed: ProbeSeedOption = 0,
    as_json: JsonArrayOption = False,
) -> int:
    """Check measures against the contract, on tiny networks: invariances, oracle, error bars, side effects.

    A file is executed and a package imported. Exit status: 0 all checks passed or skipped, 1 some failed, 2 bad input.
    """
    from sharpbench.cli.bars import announce_step
    from sharpbench.core.registry import find_measures
    from sharpbench.core.spec import format_spec, parse_specs

    classes = find_measures(target)
    chosen = parse_specs(",".join(classes) if measures is None else measures, classes, kind="measure")
    from rich.console import Console

    from sharpbench.testing import examine

    reports = {}
    for measure in chosen:
        with announce_step(f"checking {format_spec(measure)}"):
            reports[format_spec(measure)] = examine(measure, seed=seed)
        if not as_json:
            show_checks(format_spec(measure), reports[format_spec(measure)], Console())
    if as_json:
        rows = [{"measure": word, "checks": [asdict(check) for check in checks]} for word, checks in reports.items()]
        typer.echo(json.dumps(rows, indent=1))
    failed = any(check.outcome == "failed" for checks in reports.values() for check in checks)
    return EXIT_FAILED if failed else 0


STYLES: dict[Outcome, str] = {"ok": "green", "failed": "red", "skipped": "dim"}


def show_checks(measure: str, checks: Sequence[Check], console: Console) -> None:
    """Print the checks of one measure, and how many had which outcome."""
    from rich.text import Text

    from sharpbench.cli.tables import ruled_table

    table = ruled_table(measure, {"check": "text", "outcome": "text", "seen": "text"})
    for check in checks:
        table.add_row(Text(check.name), Text(check.outcome, style=STYLES[check.outcome]), Text(check.detail))
    console.print(table)
    counts = Counter(check.outcome for check in checks)
    console.print(Text(f"{measure}: {', '.join(f'{counts[outcome]} {outcome}' for outcome in STYLES)}"))
