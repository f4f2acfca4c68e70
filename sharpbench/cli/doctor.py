"""`sharpbench doctor`: what the machine offers, and what measures would take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sharpbench.cli.options import parse_dataset, parse_model
from sharpbench.report.format import MISSING, format_memory, format_number, plain_text

if TYPE_CHECKING:
    from sharpbench.core.fields import Scalar
    from sharpbench.runner.cost import PredictedCost


def doctor(
    model: Annotated[
        str | None, typer.Option(help="As for measure; without one, the machine alone is looked at.")
    ] = None,
    weights: Annotated[str, typer.Option(help="As for measure.")] = "random",
    measures: Annotated[str | None, typer.Option(help="As for run.", show_default="all that are installed")] = None,
    dataset: Annotated[str, typer.Option(help="As for measure.")] = "digits",
    limit: Annotated[int | None, typer.Option(help="As for measure.", show_default="all")] = None,
    classes: Annotated[int | None, typer.Option(help="As for measure.", show_default="those of the data")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="As for run.", show_default="all cores")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="As for run.", show_default="$SHARPBENCH_DATA")] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="As for run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> int:
    """Look at the machine; and on a network, which measures work, which do not and why, and what each would take.

    Times and memory are predicted from calls on some of the examples.
    """
    from sharpbench.cli.progress import follow_predictions
    from sharpbench.core.registry import available
    from sharpbench.datasets.dataset import Subset
    from sharpbench.environment import describe_machine, resolve_device
    from sharpbench.runner.cell import EvaluationSetting
    from sharpbench.runner.plan import select_measures
    from sharpbench.runner.single_network import NetworkEvaluation, load_subject

    place = resolve_device(device)
    forecasts = {}
    if model is not None:
        names = measures or ",".join(available("measures", plugin or ()).classes)
        inspection = NetworkEvaluation(
            model=parse_model(model, plugin or ()),
            measures=select_measures(names, plugin or ()),
            dataset=parse_dataset(dataset, plugin or ()),
            weights=weights,
            subset=Subset(limit=limit),
            classes=classes,
            setting=EvaluationSetting(dtype=dtype, device=place),  # type: ignore[arg-type]  # it checks
        )
        subject = load_subject(inspection, data_dir=data_dir, threads=threads)
        forecasts = follow_predictions(inspection.measures, subject)
    facts = describe_machine(place)
    if as_json:
        rows = {name: asdict(each) for name, each in forecasts.items()}
        typer.echo(json.dumps({"environment": facts, "measures": rows}, indent=1))
        return 0
    from rich.console import Console

    console = Console()
    show_environment(facts, console)
    if model is not None:
        title = f"{model} on {len(subject.inputs):,} examples of {dataset}, predicted"
        show_forecasts(title, forecasts, console)
    return 0


def show_environment(facts: Mapping[str, Scalar], console: Console) -> None:
    """A line a fact."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        shown = MISSING if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        table.add_row(Text(name, style="dim"), Text(plain_text(shown, 300)))
    console.print(table, crop=False)


def show_forecasts(title: str, forecasts: Mapping[str, PredictedCost], console: Console) -> None:
    """A row a measure: whether it works, what it is predicted to take, or why not."""
    table = Table(title=plain_text(title, 200), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("measure", overflow="fold")
    for heading in ("works", "seconds", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why not", overflow="fold")
    for label, each in forecasts.items():
        works = "yes" if each.status == "ok" else "no"
        cells = (
            plain_text(label, 60),
            works,
            format_number(each.seconds),
            format_memory(each.bytes),
            plain_text(each.reason or "", 300),
        )
        table.add_row(*map(Text, cells))
    console.print(table, crop=False)
