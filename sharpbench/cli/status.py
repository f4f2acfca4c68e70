"""`sharpbench status` and `sharpbench merge`: how a run stands, and several folders in one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sharpbench.cli.options import EXIT_FAILED
from sharpbench.report.format import format_duration, plain_text

if TYPE_CHECKING:
    from sharpbench.runner.status import RunStatus


def status(
    folder: Annotated[Path, typer.Argument(help="What --output of run named.")] = Path("sharpbench-results"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> int:
    """Say how the run in a folder stands: done, failed and why, running, remaining, forecast.

    Disturbs no run. Exit status: 0, or 1 where cells failed; 2 where there are no records.
    """
    from sharpbench.runner.status import read_status

    found = read_status(folder)
    if as_json:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps(asdict(found)))
    else:
        from rich.console import Console

        show_status(found, Console())
    return EXIT_FAILED if any(each not in ("ok", "skipped") for each in found.done) else 0


def merge(
    folders: Annotated[list[Path], typer.Argument(help="What --output of several runs named.")],
    output: Annotated[Path, typer.Option(help="Folder of the records together; it may hold some already.")],
) -> int:
    """Bring the records of several folders, of --shard or of anything else, together, each cell once.

    Of several records of a cell a finished one is taken before a failed one, and then the latest. Prints and writes
    the leaderboard of all. Exit status: 0 all cells ok or skipped, 1 some failed, 2 bad input.
    """
    from sharpbench.cli.run import write_leaderboard
    from sharpbench.core.records import RECORDS, iterate_records
    from sharpbench.core.records import merge_records as merged

    said = merged(folders, output)
    last = {record.key: record for record in iterate_records(output / RECORDS)}
    write_leaderboard(list(last.values()), output)
    typer.echo(f"{said.read} records read, {said.added} added; {output} holds {said.cells} cells")
    return EXIT_FAILED if any(record.status not in ("ok", "skipped") for record in last.values()) else 0


SHOWN = 20
"""So many reasons of failure, and cells that run, are shown."""


def show_status(standing: RunStatus, console: Console) -> None:
    """What is done, what failed and why, what runs, what remains and how long that will take."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, text in _lines(standing):
        table.add_row(Text(name), Text(plain_text(text, 300)))
    console.print(table, crop=False)
    _list(
        "without a value",
        ("status", "reason", "cells"),
        [(status, reason, str(count)) for status, reason, count in standing.failed],
        console,
    )
    running = [(each.measure, each.network, each.since) for each in standing.running]
    _list("running", ("measure", "network", "since"), running, console)


def _lines(standing: RunStatus) -> list[tuple[str, str]]:
    done = ", ".join(f"{count} {status}" for status, count in sorted(standing.done.items())) or "nothing"
    shard = f" of shard {standing.shard}" if standing.shard else ""
    where = f"pid {standing.pid} on {standing.host}" if standing.host else "by whom is not noted"
    lines = [("done", done), ("run", f"alive, {where}" if standing.alive else "none is alive")]
    if standing.left is not None:
        lines.append(("remaining", f"{standing.left} of {standing.planned} cells{shard} that were last asked for"))
    if standing.left and standing.seconds is not None:
        lines.append(("forecast", f"{format_duration(standing.seconds)}, as of {standing.updated}"))
    return lines


def _list(title: str, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]], console: Console) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows[:SHOWN]:
        table.add_row(*(Text(plain_text(word, 300)) for word in row))
    console.print(table, crop=False)
    if len(rows) > SHOWN:
        console.print(f"and {len(rows) - SHOWN} more")
