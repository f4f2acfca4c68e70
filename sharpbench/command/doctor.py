"""`sharpbench doctor`: what the machine offers, and what measures would take."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sharpbench.command.words import one_dataset, one_model


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
    from sharpbench.core.registry import offers
    from sharpbench.datasets.dataset import Subset
    from sharpbench.environment import diagnosis, resolve_device
    from sharpbench.report.doctor import show_environment, show_forecasts
    from sharpbench.report.progress import foresee
    from sharpbench.runner.plan import chosen_measures
    from sharpbench.runner.single_network import Inspection, examined

    place = resolve_device(device)
    forecasts = {}
    if model is not None:
        names = measures or ",".join(offers("measures", plugin or ()).classes)
        inspection = Inspection(
            model=one_model(model, plugin or ()),
            measures=chosen_measures(names, plugin or ()),
            dataset=one_dataset(dataset, plugin or ()),
            weights=weights,
            subset=Subset(limit=limit),
            classes=classes,
            dtype=dtype,
            device=place,
        )
        subject = examined(inspection, data_dir=data_dir, threads=threads)
        forecasts = foresee(inspection.measures, subject)
    facts = diagnosis(place)
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
