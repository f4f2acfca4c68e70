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
from sharpbench.cli.options import CacheDirOption, JsonArrayOption, JsonObjectOption, PluginOption
from sharpbench.cli.tables import ColumnKind, ruled_table
from sharpbench.errors import InvalidInput, near, short

if TYPE_CHECKING:
    from sharpbench.core.registry import Kind


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
    for each, rows in tables.items():
        show_installed(each, rows, Console())


def info(
    measure: Annotated[str, typer.Argument(help="A measure of `list measures`: 'minimum', 'minimum\\[scope=unit]'.")],
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
            f"package '{short(package)}' offers no measure; `sharpbench list measures` shows the packages"
        )
    wanted = measure_pages(rows)
    pages = pages_folder(folder)
    changed = pages.find_stale(wanted) if check else pages.update(wanted)
    for name in changed:
        typer.echo(f"{folder / name} {'is stale' if check else 'written' if name in wanted else 'removed'}")
    return EXIT_FAILED if check and changed else 0


MAX_WHOLE_NAME_CHARS = 22
"""Names up to this length are not folded, so that they can be copied."""
ROOMY_COLUMNS = 110
"""From this terminal width on, `list` also shows invariances and costs."""

Cell = Callable[[Mapping[str, Any]], Text]

CELLS: dict[str, Cell] = {
    "name": lambda row: Text(row["name"], style="bold"),
    "what it is": lambda row: Text(row["title"]),
    "parameters": lambda row: Text(
        "\n".join(f"{each['name']}={_setting(each['default'])}" for each in row["parameters"])
    ),
}
MEASURE_CELLS: dict[str, Cell] = {
    "invariant to": lambda row: Text(", ".join(row["invariances"]) or "-"),
    "cost in gradients": lambda row: Text(row["cost"] or "-"),
}


def _setting(value: object) -> str:
    from sharpbench.report.measure_pages import format_setting

    return format_setting(value)


def show_installed(kind: str, rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print a table of the rows of one kind; plugins that could not be used come last, with the cause."""
    cells = {**CELLS, **(MEASURE_CELLS if kind == "measures" and console.width >= ROOMY_COLUMNS else {})}
    columns: dict[str, ColumnKind] = dict.fromkeys((*cells, "package"), "text")
    for heading in ("name", "package"):
        if all(len(str(row[heading])) <= MAX_WHOLE_NAME_CHARS for row in rows):
            columns[heading] = "name"
    table = ruled_table(kind, columns)
    for row in rows:
        if row["name"] is None:
            shown = [Text("unusable", style="red"), Text(str(row["fault"])), *[Text()] * (len(cells) - 2)]
        else:
            shown = [format_cell(row) for format_cell in cells.values()]
        table.add_row(*shown, Text(row["package"]))
    console.print(table)


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
