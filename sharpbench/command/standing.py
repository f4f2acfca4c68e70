"""`sharpbench status` and `sharpbench merge`: how a run stands, and several folders in one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpbench.command.status import EXIT_FAILED


def status(
    folder: Annotated[Path, typer.Argument(help="What --output of run named.")] = Path("sharpbench-results"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> int:
    """Say how the run in a folder stands: done, failed and why, running, remaining, forecast.

    Disturbs no run. Exit status: 0, or 1 where cells failed; 2 where there are no records.
    """
    from sharpbench.runner.status import standing

    found = standing(folder)
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(found)))
    else:
        from rich.console import Console

        from sharpbench.report.standing import show

        show(found, Console())
    return EXIT_FAILED if any(each not in ("ok", "skipped") for each in found.done) else 0


def merge(
    folders: Annotated[list[Path], typer.Argument(help="What --output of several runs named.")],
    output: Annotated[Path, typer.Option(help="Folder of the records together; it may hold some already.")],
) -> int:
    """Bring the records of several folders, of --shard or of anything else, together, each cell once.

    Of several records of a cell a finished one is taken before a failed one, and then the latest. Prints and writes
    the leaderboard of all. Exit status: 0 all cells ok or skipped, 1 some failed, 2 bad input.
    """
    from sharpbench.command.run import publish
    from sharpbench.core.records import RECORDS, iterate_records
    from sharpbench.core.records import merge as merged

    said = merged(folders, output)
    last = {record.key: record for record in iterate_records(output / RECORDS)}
    publish(list(last.values()), output)
    typer.echo(f"{said.read} records read, {said.added} added; {output} holds {said.cells} cells")
    return EXIT_FAILED if any(record.status not in ("ok", "skipped") for record in last.values()) else 0
