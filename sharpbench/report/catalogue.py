"""Catalogue: what is installed, and what would run, as terminal tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def show_installed(kind: str, rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A table of the rows of one kind; plugins that could not be used stand last, with their cause."""
    table = Table(title=kind, title_justify="left", title_style="bold", expand=False)
    for heading in (
        "name",
        "what it is",
        "parameters",
        *(["invariant to"] if kind == "measures" else []),
        "package",
    ):
        table.add_column(heading, overflow="fold")
    for row in rows:
        if row["name"] is None:
            cells = [Text("unusable", style="red"), Text(str(row["fault"])), Text()]
        else:
            cells = [
                Text(row["name"], style="bold"),
                Text(row["title"]),
                Text("\n".join(map(_parameter, row["parameters"]))),
            ]
        invariances = [Text(", ".join(row.get("invariances", ())) or "-")] if kind == "measures" else []
        table.add_row(*cells, *invariances, Text(row["package"]))
    console.print(table)


def _parameter(parameter: Mapping[str, Any]) -> str:
    default = parameter["default"]
    shown = str(default).lower() if isinstance(default, bool) or default is None else str(default)
    return f"{parameter['name']}={shown}" + (f" ({parameter['type']})" if "|" in parameter["type"] else "")


def show_plan(networks: Sequence[tuple[str, int, int]], measures: Sequence[str], console: Console) -> None:
    """A table of what would run: each network with its cells in all and those still to do."""
    table = Table(title="plan", title_justify="left", title_style="bold")
    table.add_column("network", overflow="fold")
    table.add_column("cells", justify="right")
    table.add_column("to do", justify="right")
    for title, cells, remaining in networks:
        table.add_row(Text(title), str(cells), str(remaining))
    console.print(table)
    console.print(Text("measures: " + ", ".join(measures)))
    total, left = sum(cells for _, cells, _ in networks), sum(remaining for _, _, remaining in networks)
    console.print(f"{len(networks)} networks, {total} cells, {left} to do")
