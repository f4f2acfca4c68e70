"""`sharpbench status` and `sharpbench merge`: how a run stands, and the records of several folders in one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from sharpbench.cli.exits import failure_status, records_status
from sharpbench.cli.options import FullOption, JsonObjectOption
from sharpbench.cli.tables import MAX_CELL_CHARS, facts_table, open_table
from sharpbench.report.format import format_duration, plain_text

if TYPE_CHECKING:
    from sharpbench.runner.status import RunStatus


def status(
    folder: Annotated[Path, typer.Argument(help="Folder that --output of `run` named.")] = Path("sharpbench-results"),
    as_json: JsonObjectOption = False,
) -> int:
    """Show how the run in a folder stands: cells done, failed and why, running, remaining, and the time left.

    A run that is alive is not disturbed. Exit status: 0, or 1 if cells failed; 2 if there are no records.
    """
    from sharpbench.runner.status import read_status

    run_status = read_status(folder)
    if as_json:
        typer.echo(json.dumps(asdict(run_status)))
    else:
        show_status(run_status, Console())
    return failure_status(status for status, _, _ in run_status.failed)


def merge(
    sources: Annotated[
        list[Path], typer.Argument(help="Folders that --output of several runs named, or files of records.")
    ],
    output: Annotated[Path, typer.Option(help="Folder of the merged records; it may hold some already.")],
    full: FullOption = False,
) -> int:
    """Merge the records of several runs, such as those of shards, and print and write the leaderboard of all.

    There is a board for the gap, and one for each other outcome that the records state.
    Each cell has one record: a finished one rather than a failed one, then that with the most checks,
    the most outcomes, the latest time.
    A warning names the first two records of one row that are of two versions of a measure, or of one network that was
    trained again and came out differently.
    Exit status: 0 all cells ok or skipped, 1 some failed, 2 bad input.
    """
    from sharpbench.cli.bars import announce_step
    from sharpbench.cli.boards import stated_outcomes, write_outcomes
    from sharpbench.core.records import merge_records
    from sharpbench.leaderboard.collection import find_contradiction

    with announce_step("merging records"):
        merged = merge_records(sources, output)
    write_outcomes(merged.records, output, stated_outcomes(merged.records), full=full)
    if contradiction := find_contradiction(merged.records):
        typer.echo(f"warning: the boards mix what cannot be compared: {contradiction}", err=True)
    typer.echo(f"{merged.read} records read, {merged.added} added; {output} holds {merged.cells} cells")
    return records_status(merged.records)


MAX_ROWS = 20
"""Reasons of failures, and running cells, that are shown."""


def show_status(status: RunStatus, console: Console) -> None:
    """Print what is done, what failed and why, what runs, what remains and how long that will take."""
    console.print(facts_table(_facts(status)), crop=False)
    failed = [(each, reason, str(count)) for each, reason, count in status.failed]
    _show_rows("without a value or a check", ("status", "reason", "cells"), failed, console)
    running = [(each.measure, each.network, each.since) for each in status.running]
    _show_rows("running", ("measure", "network", "since"), running, console)


def _facts(status: RunStatus) -> list[tuple[str, str]]:
    done = ", ".join(f"{count} {each}" for each, count in sorted(status.done.items())) or "nothing"
    shard = f" of shard {status.shard}" if status.shard else ""
    where = f"pid {status.pid} on {status.host}" if status.host else "process unknown"
    facts = [("done", done), ("run", f"alive, {where}" if status.alive else "none is alive")]
    if status.left is not None:
        planned = "" if status.planned is None else f" of {status.planned}"
        facts.append(("remaining", f"{status.left}{planned} cells{shard}, as last requested"))
    if status.left and status.seconds is not None:
        scope = "" if status.training_included else " of measuring"
        when = "" if status.updated is None else f", as of {status.updated}"
        facts.append(("forecast", f"{format_duration(status.seconds)}{scope}{when}"))
    return facts


def _show_rows(title: str, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]], console: Console) -> None:
    if not rows:
        return
    table = open_table(title, dict.fromkeys(headings, "text"))
    for row in rows[:MAX_ROWS]:
        table.add_row(*(Text(plain_text(word, MAX_CELL_CHARS)) for word in row))
    console.print(table, crop=False)
    if len(rows) > MAX_ROWS:
        console.print(f"and {len(rows) - MAX_ROWS} more")
