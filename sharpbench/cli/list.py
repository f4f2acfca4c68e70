"""`sharpbench list`, `info` and `docs`: what is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharpbench.cli.options import EXIT_FAILED
from sharpbench.errors import InvalidInput, near, short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sharpbench.core.registry import Kind


def list_(
    kind: Annotated[
        str | None, typer.Argument(help="measures, models, datasets, optimizers or cohorts; all where none is named.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array of objects.")] = False,
    cache_dir: Annotated[
        Path | None, typer.Option(help="As for run.", show_default="$SHARPBENCH_CACHE, else the user's cache")
    ] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="As for run.")] = None,
) -> None:
    """List what is installed: measures, models, datasets, optimizers and cohorts, with their parameters."""
    from sharpbench.core.catalog import list_installed
    from sharpbench.core.registry import KINDS

    if kind is not None and kind not in KINDS:
        raise InvalidInput(f"unknown kind '{short(kind)}'; {near(kind, KINDS) or 'one of ' + ', '.join(KINDS)}")
    wanted: Sequence[Kind] = KINDS if kind is None else [known for known in KINDS if known == kind]
    tables: dict[str, list[dict[str, Any]]] = {
        each: list_installed(each, plugins=plugin or (), cache_dir=cache_dir) for each in wanted
    }
    if as_json:
        typer.echo(json.dumps([row for rows in tables.values() for row in rows], indent=1))
        return
    from rich.console import Console

    from sharpbench.cli.tables import show_installed

    for each, rows in tables.items():
        show_installed(each, rows, Console())


def info(
    measure: Annotated[
        str, typer.Argument(help="A measure, as in `list measures`: 'minimum', 'minimum\\[scope=unit]'.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    cache_dir: Annotated[
        Path | None, typer.Option(help="As for run.", show_default="$SHARPBENCH_CACHE, else the user's cache")
    ] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="As for run.")] = None,
) -> None:
    """Show all about a measure: formula, source, parameters, invariances, cost, oracle, how to cite it."""
    from sharpbench.core.catalog import describe_measure

    row = describe_measure(measure, plugins=plugin or (), cache_dir=cache_dir)
    if as_json:
        typer.echo(json.dumps(row, indent=1))
        return
    from rich.console import Console

    from sharpbench.cli.tables import show_measure

    show_measure(row, Console())


def docs(
    folder: Annotated[Path, typer.Argument(help="Where the pages are written: one a measure, and README.md.")],
    package: Annotated[str, typer.Option(help="Whose measures: the name of a distribution.")] = "sharpbench",
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 where a page is stale.")] = False,
    cache_dir: Annotated[
        Path | None, typer.Option(help="As for run.", show_default="$SHARPBENCH_CACHE, else the user's cache")
    ] = None,
) -> int:
    """Write one Markdown page a measure, from what its class says, and their index."""
    from sharpbench.core.catalog import list_installed
    from sharpbench.report.measure_pages import measure_pages, pages_folder

    rows = [row for row in list_installed("measures", cache_dir=cache_dir) if row["package"] == package and row["name"]]
    if not rows:
        raise InvalidInput(
            f"package '{short(package)}' offers no measure; `sharpbench list measures` shows the packages"
        )
    wanted = measure_pages(rows)
    pages = pages_folder(folder)
    changed = pages.find_stale(wanted) if check else pages.update(wanted)
    for name in changed:
        typer.echo(f"{folder / name} {'is stale' if check else 'written' if name in wanted else 'removed'}")
    return EXIT_FAILED if check and changed else 0
