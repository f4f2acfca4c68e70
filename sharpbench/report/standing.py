"""Standing: how a run stands, as a terminal table."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sharpbench.report.format import duration, plain
from sharpbench.runner.status import Standing

SHOWN = 20
"""So many reasons of failure, and cells that run, are shown."""


def show(standing: Standing, console: Console) -> None:
    """What is done, what failed and why, what runs, what remains and how long that will take."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, text in _lines(standing):
        table.add_row(Text(name), Text(plain(text, 300)))
    console.print(table, crop=False)
    _list(
        "without a value",
        ("status", "reason", "cells"),
        [(status, reason, str(count)) for status, reason, count in standing.failed],
        console,
    )
    running = [(each.measure, each.network, each.since) for each in standing.running]
    _list("running", ("measure", "network", "since"), running, console)


def _lines(standing: Standing) -> list[tuple[str, str]]:
    done = ", ".join(f"{count} {status}" for status, count in sorted(standing.done.items())) or "nothing"
    shard = f" of shard {standing.shard}" if standing.shard else ""
    where = f"pid {standing.pid} on {standing.host}" if standing.host else "by whom is not noted"
    lines = [("done", done), ("run", f"alive, {where}" if standing.alive else "none is alive")]
    if standing.left is not None:
        lines.append(("remaining", f"{standing.left} of {standing.planned} cells{shard} that were last asked for"))
    if standing.left and standing.seconds is not None:
        lines.append(("forecast", f"{duration(standing.seconds)}, as of {standing.updated}"))
    return lines


def _list(title: str, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]], console: Console) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows[:SHOWN]:
        table.add_row(*(Text(plain(word, 300)) for word in row))
    console.print(table, crop=False)
    if len(rows) > SHOWN:
        console.print(f"and {len(rows) - SHOWN} more")
