"""Catalogue: what is installed, all about one measure, and what would run, as terminal tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sharpbench.report.measure_pages import NOT_STATED, format_setting, measure_facts

if TYPE_CHECKING:
    from sharpbench.testing.examination import Check, Outcome

Column = Callable[[Mapping[str, Any]], Text]
COLUMNS: dict[str, Column] = {
    "name": lambda row: Text(row["name"], style="bold"),
    "what it is": lambda row: Text(row["title"]),
    "parameters": lambda row: Text(
        "\n".join(f"{each['name']}={format_setting(each['default'])}" for each in row["parameters"])
    ),
}
NAME_WIDTH = 22
"""Names up to this long are not folded: they are there to be typed."""
ROOMY = 110
"""From this terminal width on, `list` says what is in `info` too."""
STYLES: dict[Outcome, str] = {"ok": "green", "failed": "red", "skipped": "dim"}
OF_MEASURES: dict[str, Column] = {
    "invariant to": lambda row: Text(", ".join(row["invariances"]) or "-"),
    "cost in gradients": lambda row: Text(row["cost"] or "-"),
}


def show_installed(kind: str, rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """A table of the rows of one kind; plugins that could not be used stand last, with their cause."""
    table = Table(title=kind, title_justify="left", title_style="bold", expand=False)
    columns = {**COLUMNS, **(OF_MEASURES if kind == "measures" and console.width >= ROOMY else {})}
    for heading in (*columns, "package"):
        whole = heading in {"name", "package"} and all(len(str(row[heading])) <= NAME_WIDTH for row in rows)
        table.add_column(heading, overflow="fold", no_wrap=whole)
    for row in rows:
        cells = [show(row) for show in columns.values()] if row["name"] is not None else _unusable(row, len(columns))
        table.add_row(*cells, Text(row["package"]))
    console.print(table)


def _unusable(row: Mapping[str, Any], columns: int) -> list[Text]:
    return [Text("unusable", style="red"), Text(str(row["fault"])), *[Text()] * (columns - 2)]


def show_measure(row: Mapping[str, Any], console: Console) -> None:
    """All about one measure: what it says of itself, its parameters, its docstring, and how to cite it."""
    console.print(Text.assemble((row["name"], "bold"), f": {row['title']}"))
    table = Table.grid(padding=(0, 2))
    for heading, text in measure_facts(row).items():
        table.add_row(Text(heading, style="dim"), Text(text))
    console.print(Padding(table, (1, 0, 0, 0)))
    if row["parameters"]:
        console.print(Padding(_parameters(row["parameters"]), (1, 0, 0, 0)))
    for heading, text in {"docstring": row["docstring"], "bibtex": row["bibtex"]}.items():
        console.print()
        console.print(Text(heading, style="bold"))
        console.print(Text(text or NOT_STATED), soft_wrap=True)


def _parameters(parameters: Sequence[Mapping[str, Any]]) -> Table:
    given = "value" in parameters[0]
    table = Table(title="parameters", title_justify="left", title_style="bold")
    for heading in ("name", "type", "default", *(["value"] if given else [])):
        table.add_column(heading, overflow="fold")
    for each in parameters:
        values = [format_setting(each[key]) for key in ("default", "value") if key in each]
        table.add_row(*map(Text, (each["name"], each["type"], *values)))
    return table


def show_checks(word: str, checks: Sequence[Check], console: Console) -> None:
    """A table of the checks of one measure, and how many came out how."""
    table = Table(title=word, title_justify="left", title_style="bold")
    for heading in ("check", "outcome", "seen"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        table.add_row(Text(check.name), Text(check.outcome, style=STYLES[check.outcome]), Text(check.detail))
    console.print(table)
    counts = Counter(check.outcome for check in checks)
    console.print(Text(f"{word}: {', '.join(f'{counts[outcome]} {outcome}' for outcome in STYLES)}"))


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
