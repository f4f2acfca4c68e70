"""`sharpbench validate`: the contract suite on measures of others."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from sharpbench.cli.options import EXIT_FAILED


def validate(
    target: Annotated[
        str, typer.Argument(help="A Python file, which is executed, or the name of an installed package or module.")
    ],
    measures: Annotated[
        str | None, typer.Option(help="Which, with parameters: 'weight-norm\\[p=1]'.", show_default="all, at defaults")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random probes of measures.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array of objects.")] = False,
) -> int:
    """Check measures against the contract, on tiny networks: invariances, oracle, error bars, side effects.

    A FILE is executed, a package imported. Exit status: 0 all checks passed or skipped, 1 some failed, 2 bad input.
    """
    from sharpbench.core.registry import find_measures
    from sharpbench.core.spec import format_spec, parse_specs

    classes = find_measures(target)
    chosen = parse_specs(",".join(classes) if measures is None else measures, classes, kind="measure")
    from rich.console import Console

    from sharpbench.cli.tables import show_checks
    from sharpbench.testing import examine

    reports = {}
    for measure in chosen:
        reports[format_spec(measure)] = examine(measure, seed=seed)
        if not as_json:
            show_checks(format_spec(measure), reports[format_spec(measure)], Console())
    if as_json:
        rows = [{"measure": word, "checks": [asdict(check) for check in checks]} for word, checks in reports.items()]
        typer.echo(json.dumps(rows, indent=1))
    failed = any(check.outcome == "failed" for checks in reports.values() for check in checks)
    return EXIT_FAILED if failed else 0
