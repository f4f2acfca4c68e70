"""`sharpbench doctor`: what the machine offers, and the time and memory that measures would take on a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from sharpbench.cli.options import (
    MODEL_HELP,
    AllMeasuresOption,
    ClassesOption,
    DataDirOption,
    DeviceOption,
    DtypeOption,
    JsonObjectOption,
    LimitOption,
    OwnDatasetOption,
    PluginOption,
    ThreadsOption,
    WeightsOption,
    parse_dataset,
    parse_model,
)
from sharpbench.cli.tables import MAX_CELL_CHARS, ColumnKind, facts_table, open_table
from sharpbench.report.format import MISSING, format_memory, format_number, plain_text

if TYPE_CHECKING:
    from sharpbench.core.fields import Scalar
    from sharpbench.runner.cost import PredictedCost


def doctor(
    model: Annotated[
        str | None, typer.Option(help=MODEL_HELP, show_default="none; only the machine is examined")
    ] = None,
    weights: WeightsOption = "random",
    measures: AllMeasuresOption = None,
    dataset: OwnDatasetOption = "digits",
    limit: LimitOption = None,
    classes: ClassesOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    data_dir: DataDirOption = None,
    plugin: PluginOption = None,
    as_json: JsonObjectOption = False,
) -> int:
    """Describe the machine; for a network, say which measures work and what time and memory each would take.

    Measures that do not work are listed with the reason. Times and memory are predicted from calls on some of the
    examples.
    """
    from sharpbench.cli.progress import follow_steps
    from sharpbench.core.registry import available
    from sharpbench.core.spec import format_spec
    from sharpbench.datasets.dataset import Subset
    from sharpbench.environment import describe_machine, resolve_device
    from sharpbench.runner.cell import EvaluationSetting
    from sharpbench.runner.cost import predict_cost
    from sharpbench.runner.plan import select_measures
    from sharpbench.runner.single_network import NetworkEvaluation, load_subject

    place = resolve_device(device)
    costs: dict[str, PredictedCost] = {}
    if model is not None:
        names = measures or ",".join(available("measures", plugin or ()).classes)
        evaluation = NetworkEvaluation(
            model=parse_model(model, plugin or ()),
            measures=select_measures(names, plugin or ()),
            dataset=parse_dataset(dataset, plugin or ()),
            weights=weights,
            subset=Subset(limit=limit),
            classes=classes,
            setting=EvaluationSetting(dtype=dtype, device=place),  # type: ignore[arg-type]  # it checks
        )
        subject = load_subject(evaluation, data_dir=data_dir, threads=threads)
        steps = follow_steps(evaluation.measures, lambda each: f"trying out {format_spec(each)}", start="starting")
        costs = {format_spec(each): predict_cost(each, subject) for each in steps}
    facts = describe_machine(place)
    if as_json:
        rows = {name: asdict(cost) for name, cost in costs.items()}
        typer.echo(json.dumps({"environment": facts, "measures": rows}, indent=1))
        return 0
    console = Console()
    console.print(facts_table((name, _fact(value)) for name, value in facts.items()), crop=False)
    if model is not None:
        title = f"{model} on {len(subject.inputs):,} examples of {dataset}, predicted"
        show_predictions(title, costs, console)
    return 0


def _fact(value: Scalar) -> str:
    return MISSING if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def show_predictions(title: str, costs: Mapping[str, PredictedCost], console: Console) -> None:
    """Print for each measure whether it works, the seconds and memory that it will take, or why it does not."""
    columns: dict[str, ColumnKind] = {
        "measure": "text", "works": "number", "seconds": "number", "memory": "number", "why not": "text",
    }  # fmt: skip
    table = open_table(plain_text(title, 200), columns)
    for label, cost in costs.items():
        works = "yes" if cost.status == "ok" else "no"
        reason = plain_text(cost.reason or "", MAX_CELL_CHARS)
        cells = plain_text(label, 60), works, format_number(cost.seconds), format_memory(cost.bytes), reason
        table.add_row(*map(Text, cells))
    console.print(table, crop=False)
