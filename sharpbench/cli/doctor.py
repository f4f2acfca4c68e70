"""`sharpbench doctor`: what the machine offers, and the time and memory that measures would take on a network."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sharpbench.cli.options import (
    DEFAULT_MEASURES,
    MODEL_HELP,
    ClassesOption,
    DataDirOption,
    DeviceOption,
    DtypeOption,
    JsonObjectOption,
    LimitOption,
    LossOption,
    MeanOption,
    MeasuresOption,
    OwnDatasetOption,
    ParametersOption,
    PluginOption,
    StdOption,
    ThreadsOption,
    TransformOption,
    WeightsOption,
    given_options,
    parse_preparation,
)
from sharpbench.cli.tables import MAX_CELL_CHARS, ColumnKind, GrowingTable, facts_table
from sharpbench.errors import InvalidInput
from sharpbench.report.format import MISSING, format_memory, format_number, plain_text

if TYPE_CHECKING:
    from sharpbench.core.fields import Scalar
    from sharpbench.core.measure import Measure
    from sharpbench.core.subject import Subject
    from sharpbench.runner.cost import PredictedCost

MACHINE_OPTIONS = ("model", "device", "as_json")
"""Parameters that have an effect without a network."""
MAX_LABEL_CHARS = 40


def doctor(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option(help=MODEL_HELP, show_default="none; only the machine is examined")
    ] = None,
    weights: WeightsOption = "random",
    measures: MeasuresOption = DEFAULT_MEASURES,
    dataset: OwnDatasetOption = "digits",
    limit: LimitOption = None,
    classes: ClassesOption = None,
    loss: LossOption = "cross_entropy",
    parameters: ParametersOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    transform: TransformOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    threads: ThreadsOption = None,
    seconds: Annotated[float, typer.Option(help="Time for all measures together, in equal parts.")] = 60.0,
    data_dir: DataDirOption = None,
    plugin: PluginOption = None,
    as_json: JsonObjectOption = False,
) -> int:
    """Describe the machine; for a network, say which measures work and what time and memory each would take.

    Measures that do not work are listed with the reason. Times and memory are predicted from calls on some of the
    examples. Rows appear as they are found.
    """
    from sharpbench.cli.bars import announce_step

    with announce_step("examining the machine"):
        from sharpbench.core.spec import format_spec
        from sharpbench.datasets.dataset import Subset
        from sharpbench.environment import describe_machine, resolve_device
        from sharpbench.runner.cell import EvaluationSetting
        from sharpbench.runner.named_parts import parse_dataset, parse_model
        from sharpbench.runner.network_evaluation import NetworkEvaluation
        from sharpbench.runner.plan import select_measures
        from sharpbench.runner.single_network import load_subject, set_up_torch

        if not 0 < seconds < math.inf:
            raise InvalidInput(f"seconds={seconds} must be a number of seconds above 0")
        unused = [option for name, option in given_options(context).items() if name not in MACHINE_OPTIONS]
        if model is None and unused:
            raise InvalidInput(
                f"{', '.join(unused)} {'are' if unused[1:] else 'is'} about a network; also give --model"
            )
        place = resolve_device(device)
        set_up_torch(place, threads)
        facts = describe_machine(place)
    if not as_json:
        Console().print(facts_table((name, _fact(value)) for name, value in facts.items()), crop=False)
    rows: dict[str, PredictedCost] = {}
    if model is not None:
        evaluation = NetworkEvaluation(
            model=parse_model(model, plugin or ()),
            measures=select_measures(measures, plugin or ()),
            dataset=parse_dataset(dataset, plugin or ()),
            weights=weights,
            subset=Subset(limit=limit),
            classes=classes,
            setting=EvaluationSetting(dtype=dtype, device=place),  # type: ignore[arg-type]  # it checks
            preparation=parse_preparation(mean, std, transform),
            loss=loss,
            parameters=parameters,
        )
        with announce_step("reading data and weights"), contextlib.redirect_stdout(sys.stderr):
            subject = load_subject(evaluation, data_dir=data_dir, threads=threads)
        labels = [plain_text(format_spec(each), MAX_LABEL_CHARS) for each in evaluation.measures]
        title = f"{model} on {subject.n:,} examples of {dataset}, predicted"
        table = None if as_json else predictions_table(title, labels, Console())
        for label, cost in predict_costs(evaluation.measures, subject, seconds):
            rows[label] = cost
            if table is not None:
                table.add_row(*_prediction_cells(label, cost))
    if as_json:
        measured = {label: asdict(cost) for label, cost in rows.items()}
        typer.echo(json.dumps({"environment": facts, "measures": measured}, indent=1))
    return 0


def _fact(value: Scalar) -> str:
    return MISSING if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def predict_costs(measures: Sequence[Measure], subject: Subject, seconds: float) -> Iterator[tuple[str, PredictedCost]]:
    """The label and the predicted cost of each measure; those that are left share the seconds that are left."""
    from sharpbench.cli.bars import announce_step
    from sharpbench.core.spec import format_spec
    from sharpbench.runner.cost import predict_cost

    end = time.monotonic() + seconds
    for index, each in enumerate(measures):
        share = max(0.0, end - time.monotonic()) / (len(measures) - index)
        doing = f"trying out {format_spec(each)}, {index + 1} of {len(measures)}"
        with announce_step(f"{doing}, for {share:.0f} s at most"), contextlib.redirect_stdout(sys.stderr):
            cost = predict_cost(each, subject, seconds=share)
        yield format_spec(each), cost


def predictions_table(title: str, labels: Sequence[str], console: Console) -> GrowingTable:
    """The table whose rows say whether a measure works, the seconds and memory that it takes, or why it does not."""
    columns: dict[str, tuple[ColumnKind, int | None]] = {
        "measure": ("text", min(max(map(len, ("measure", *labels))), max(16, console.width // 3))),
        "works": ("name", len("unknown")),
        "seconds": ("number", len("seconds")),
        "memory": ("number", len("1,024 MiB")),
        "why not": ("text", None),
    }
    return GrowingTable(plain_text(title, 200), columns, console)


def _prediction_cells(label: str, cost: PredictedCost) -> tuple[str, ...]:
    works = {"ok": "yes", "timeout": "unknown"}.get(cost.status, "no")
    remedy = "; give more --seconds or a smaller --limit" if cost.status == "timeout" else ""
    reason = plain_text(f"{cost.reason or ''}{remedy}", MAX_CELL_CHARS)
    return plain_text(label, MAX_LABEL_CHARS), works, format_number(cost.seconds), format_memory(cost.bytes), reason
