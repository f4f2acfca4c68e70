"""`sharpbench list`, `info` and `docs`: the measures, models, data sets, optimizers and cohorts that are installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sharpbench.cli.exits import EXIT_FAILED
from sharpbench.cli.options import CacheDirOption, JsonArrayOption, JsonObjectOption, PluginOption, complete_measures
from sharpbench.cli.tables import ColumnKind, ruled_table
from sharpbench.errors import InvalidInput, shorten, suggest_names

if TYPE_CHECKING:
    from sharpbench.core.installed_plugins import Kind


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(help="measures, models, datasets, optimizers or cohorts.", show_default="all of them"),
    ] = None,
    as_json: JsonArrayOption = False,
    cache_dir: CacheDirOption = None,
    plugin: PluginOption = None,
) -> None:
    """List what is installed: measures, models, datasets, optimizers and cohorts, with their parameters."""
    from sharpbench.core.catalog import list_installed
    from sharpbench.core.installed_plugins import KINDS

    if kind is not None and kind not in KINDS:
        raise InvalidInput(
            f"unknown kind '{shorten(kind)}'; {suggest_names(kind, KINDS) or 'one of ' + ', '.join(KINDS)}"
        )
    wanted: Sequence[Kind] = KINDS if kind is None else [known for known in KINDS if known == kind]
    tables: dict[str, list[dict[str, Any]]] = {
        each: list_installed(each, plugins=plugin or (), cache_dir=cache_dir) for each in wanted
    }
    if as_json:
        typer.echo(json.dumps([row for rows in tables.values() for row in rows], indent=1))
        return
    for each, rows in tables.items():
        show_installed(each, rows, Console())


def info(
    measure: Annotated[
        str,
        typer.Argument(
            help="A measure of `list measures`: 'minimum', 'minimum\\[scope=unit]'.", autocompletion=complete_measures
        ),
    ],
    as_json: JsonObjectOption = False,
    cache_dir: CacheDirOption = None,
    plugin: PluginOption = None,
) -> None:
    """Describe a measure: its formula, source, parameters, invariances, cost, oracle, and how to cite it."""
    from sharpbench.core.catalog import describe_measure

    row = describe_measure(measure, plugins=plugin or (), cache_dir=cache_dir)
    if as_json:
        typer.echo(json.dumps(row, indent=1))
        return
    show_measure(row, Console())


def docs(
    folder: Annotated[Path, typer.Argument(help="Folder of the pages: one per measure, and README.md.")],
    package: Annotated[str, typer.Option(help="Distribution whose measures are documented.")] = "sharpbench",
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a page is stale.")] = False,
    cache_dir: CacheDirOption = None,
) -> int:
    """Write one Markdown page per measure, from the metadata of its class, and an index of them."""
    from sharpbench.core.catalog import list_installed
    from sharpbench.report.measure_pages import measure_pages, pages_folder

    rows = [row for row in list_installed("measures", cache_dir=cache_dir) if row["package"] == package and row["name"]]
    if not rows:
        raise InvalidInput(
            f"package '{shorten(package)}' offers no measure; `sharpbench list measures` shows the packages"
        )
    wanted = measure_pages(rows)
    pages = pages_folder(folder)
    changed = pages.find_stale(wanted) if check else pages.update(wanted)
    for name in changed:
        typer.echo(f"{folder / name} {'is stale' if check else 'written' if name in wanted else 'removed'}")
    return EXIT_FAILED if check and changed else 0


MIN_TEXT_CHARS = 24
"""A table whose columns of text would be narrower is printed as a list."""

WHOLE_COLUMNS = ("name", "parameters", "invariant to", "package")
"""Columns that are never folded, so that their words can be copied."""

Cell = Callable[[Mapping[str, Any]], Text]

CELLS: dict[str, Cell] = {
    "name": lambda row: Text(row["name"], style="bold"),
    "what it is": lambda row: Text(row["title"]),
    "parameters": lambda row: Text(
        "\n".join(f"{each['name']}={_setting(each['default'])}" for each in row["parameters"])
    ),
}
MEASURE_CELLS: dict[str, Cell] = {
    "invariant to": lambda row: Text("\n".join(row["invariances"]) or "-"),
    "cost in gradients": lambda row: Text(row["cost"] or "-"),
}


def _setting(value: object) -> str:
    from sharpbench.report.measure_pages import format_setting

    return format_setting(value)


def show_installed(kind: str, rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the rows of one kind as a table, or as a list where the terminal is too narrow for whole names.

    Plugins that could not be used come last, with the cause.
    """
    for cells in ({**CELLS, **MEASURE_CELLS}, CELLS) if kind == "measures" else (CELLS,):
        table = _table(kind, rows, cells, console.width)
        if table is not None:
            console.print(table)
            return
    console.print(Text(kind, style="bold"))
    for row in rows:
        name, title, parameters = (_cell(row, heading, make) for heading, make in CELLS.items())
        console.print(Text.assemble(name, f" ({row['package']})"))
        for text in (title, Text(", ".join(parameters.plain.splitlines()))):
            if text:
                console.print(Padding(text, (0, 0, 0, 2)))


def _table(kind: str, rows: Sequence[Mapping[str, Any]], cells: Mapping[str, Cell], width: int) -> Table | None:
    """The rows as a table; None where it is wider than `width`."""
    kinds: dict[str, ColumnKind] = {
        heading: "name" if heading in WHOLE_COLUMNS else "text" for heading in (*cells, "package")
    }
    shown = [[*(_cell(row, heading, make) for heading, make in cells.items()), Text(row["package"])] for row in rows]
    least = [_min_chars([texts[index].plain for texts in shown], how) for index, how in enumerate(kinds.values())]
    if sum(least) + 3 * len(least) + 1 > width:
        return None
    table = ruled_table(kind, kinds)
    for texts in shown:
        table.add_row(*texts)
    return table


def _cell(row: Mapping[str, Any], heading: str, make: Cell) -> Text:
    """The cell of a row; a plugin that could not be used has its cause in the place of its title."""
    if row["name"] is not None:
        return make(row)
    return Text({"name": "unusable", "what it is": str(row["fault"])}.get(heading, ""), style="red")


def _min_chars(texts: Sequence[str], kind: ColumnKind) -> int:
    """The least width of a column: no name and no line of parameters is folded, and a text not too often."""
    longest = max((len(line) for text in texts for line in text.splitlines()), default=0)
    return min(longest, MIN_TEXT_CHARS) if kind == "text" else longest


def show_measure(row: Mapping[str, Any], console: Console) -> None:
    """Print the facts of one measure, its parameters, its docstring, and how to cite it."""
    from sharpbench.report.measure_pages import NOT_STATED, measure_facts

    console.print(Text.assemble((row["name"], "bold"), f": {row['title']}"))
    facts = Table.grid(padding=(0, 2))
    for heading, text in measure_facts(row).items():
        facts.add_row(Text(heading, style="dim"), Text(text))
    console.print(Padding(facts, (1, 0, 0, 0)))
    if row["parameters"]:
        console.print(Padding(_parameter_table(row["parameters"]), (1, 0, 0, 0)))
    for heading, text in {"docstring": row["docstring"], "bibtex": row["bibtex"]}.items():
        console.print()
        console.print(Text(heading, style="bold"))
        console.print(Text(text or NOT_STATED), soft_wrap=True)


def _parameter_table(parameters: Sequence[Mapping[str, Any]]) -> Table:
    settings = [key for key in ("default", "value") if key in parameters[0]]
    columns: dict[str, ColumnKind] = dict.fromkeys(("name", "type", *settings), "text")
    table = ruled_table("parameters", columns)
    for each in parameters:
        table.add_row(*map(Text, (each["name"], each["type"], *(_setting(each[key]) for key in settings))))
    return table
