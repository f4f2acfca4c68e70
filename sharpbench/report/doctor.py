"""Doctor: what a machine offers, and what measures would do on a network, as terminal tables."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sharpbench.core.fields import Scalar
from sharpbench.report.format import MISSING, memory, number, plain
from sharpbench.runner.cost import Forecast


def show_environment(facts: Mapping[str, Scalar], console: Console) -> None:
    """A line a fact."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        shown = MISSING if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        table.add_row(Text(name, style="dim"), Text(plain(shown, 300)))
    console.print(table, crop=False)


def show_forecasts(title: str, forecasts: Mapping[str, Forecast], console: Console) -> None:
    """A row a measure: whether it works, what it is predicted to take, or why not."""
    table = Table(title=plain(title, 200), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("measure", overflow="fold")
    for heading in ("works", "seconds", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why not", overflow="fold")
    for label, each in forecasts.items():
        works = "yes" if each.status == "ok" else "no"
        cells = (plain(label, 60), works, number(each.seconds), memory(each.bytes), plain(each.reason or "", 300))
        table.add_row(*map(Text, cells))
    console.print(table, crop=False)
