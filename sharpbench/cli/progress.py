"""Progress: what a run is doing, on the terminal; silent when there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from sharpbench.core.measure import Measure
from sharpbench.core.record import Record
from sharpbench.core.spec import format_spec
from sharpbench.core.subject import Subject
from sharpbench.report.format import format_duration
from sharpbench.runner import single_network
from sharpbench.runner.cell import Cell
from sharpbench.runner.cost import PredictedCost, predict_cost
from sharpbench.runner.engines.pool import CellStarted
from sharpbench.runner.run import Event, TornLineRemoved
from sharpbench.runner.status import EtaEstimator
from sharpbench.training.population import TrainedRecipe, TrainingEpoch
from sharpbench.training.recipe import Recipe
from sharpbench.training.workers import GroupLost


def follow_run(steps: Iterator[Event], *, cells: Sequence[Cell], done: int, seats: int) -> Counter[str]:
    """Go through `steps` to their end with a bar on stderr; how many records had which status.

    cells: those to do, `seats` of them at a time. done: how many have a record already. The forecast is that of
    `EtaEstimator`.
    """
    console = Console(stderr=True)
    counts: Counter[str] = Counter()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[forecast]}"),
    )
    pace = EtaEstimator(cells, slots=seats)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("starting", total=done + len(cells), completed=done, forecast="")
        for step in steps:
            if isinstance(step, Record):
                counts[step.status] += 1
                pace.end(step.key)
                seconds = pace.seconds()
                bar.update(task, advance=1, forecast="" if seconds is None else f"{format_duration(seconds)} left")
            elif isinstance(step, TornLineRemoved):
                console.print(
                    f"{escape(str(step.path))}: cut off a torn last line of {step.size} bytes, left by a killed run"
                )
            else:
                if isinstance(step, CellStarted):
                    pace.start(step.cell)
                bar.update(task, description=escape(_words(step)))
    return counts


def follow_predictions(measures: Sequence[Measure], subject: Subject) -> dict[str, PredictedCost]:
    """The forecast of every measure by its label, with a line on stderr that says which is tried out."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)
        forecasts = {}
        for measure in measures:
            bar.update(task, description=f"trying out {escape(format_spec(measure))}")
            forecasts[format_spec(measure)] = predict_cost(measure, subject)
    return forecasts


def follow_measurements(steps: Iterator[Record | single_network.WeightsStarted]) -> list[Record]:
    """Go through the `steps` of an inspection with a line on stderr that says what is measured; the records."""
    console = Console(stderr=True)
    records: list[Record] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("reading data and weights", total=None)
        for step in steps:
            if isinstance(step, Record):
                records.append(step)
            else:
                bar.update(task, description=escape(f"{step.measure} at weights {step.source}"))
    return records


def _words(step: TrainingEpoch | CellStarted) -> str:
    if isinstance(step, CellStarted):
        return f"{format_spec(step.cell.measure)}: {step.cell.recipe.title}"
    return f"training {step.recipe.title}: epoch {step.epoch.number}, loss {step.epoch.loss:.3f}"


def follow_training(
    steps: Iterator[TrainingEpoch | TrainedRecipe | GroupLost], *, total: int
) -> list[TrainedRecipe | GroupLost]:
    """Go through `steps` to their end with a bar on stderr, and a line for each network in training."""
    console = Console(stderr=True)
    outcomes: list[TrainedRecipe | GroupLost] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        whole = bar.add_task("networks", total=total)
        lines: dict[Recipe, TaskID] = {}
        for step in steps:
            if isinstance(step, TrainingEpoch):
                _advance(bar, lines, step)
                continue
            outcomes.append(step)
            recipes = step.group if isinstance(step, GroupLost) else (step.recipe,)
            bar.advance(whole, len(recipes))
            for recipe in recipes:
                if recipe in lines:
                    bar.remove_task(lines.pop(recipe))
            if isinstance(step, GroupLost):
                console.print(f"error: {escape(_names(step))}: {escape(step.reason)}", soft_wrap=True)
    return outcomes


def _advance(bar: Progress, lines: dict[Recipe, TaskID], step: TrainingEpoch) -> None:
    words = f"{step.recipe.title}: loss {step.epoch.loss:.3f}"
    if step.recipe not in lines:
        lines[step.recipe] = bar.add_task("", total=step.recipe.max_epochs)
    bar.update(lines[step.recipe], description=escape(words), completed=step.epoch.number)


def _names(step: GroupLost) -> str:
    others = f" and {len(step.group) - 1} more that train with it" if len(step.group) > 1 else ""
    return step.group[0].title + others
