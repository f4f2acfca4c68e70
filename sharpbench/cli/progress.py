"""The progress bar of every long command, on stderr; silent where stderr is not a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from sharpbench.core.record import Record
from sharpbench.core.spec import format_spec
from sharpbench.report.format import format_duration
from sharpbench.runner.engines.pool import CellStarted
from sharpbench.runner.run import Event, RecordsFileChanged, RunPlan, TornLineRemoved
from sharpbench.runner.status import EtaEstimator
from sharpbench.training.population import NetworkDiscarded, TrainedRecipe, TrainingEpoch, TrainingProgress
from sharpbench.training.recipe import Recipe
from sharpbench.training.workers import GroupLost

Step = TypeVar("Step")


def progress_bar(*columns: ProgressColumn, counted: bool, console: Console) -> Progress:
    """A bar that disappears at its end. counted: with the number done of a known total, else with a spinner."""
    text = TextColumn("{task.description}")
    shown = (text, BarColumn(), MofNCompleteColumn()) if counted else (SpinnerColumn(), text)
    return Progress(
        *shown,
        TimeElapsedColumn(),
        *columns,
        console=console,
        disable=not console.is_terminal,
        transient=True,
        redirect_stdout=False,  # it would go to stderr, also where it is piped into a file
    )


@contextlib.contextmanager
def announce_step(text: str) -> Iterator[None]:
    """A line on stderr that says what the block does, until its end."""
    with progress_bar(counted=False, console=Console(stderr=True)) as bar:
        bar.add_task(escape(text), total=None)
        yield


def follow_steps(steps: Iterable[Step], describe: Callable[[Step], str | None], *, start: str) -> Iterator[Step]:
    """Yield the steps, with a line on stderr that describes the current one.

    Args:
        describe: the text for a step, or None where the line stays as it is.
        start: the text before the first step.
    """
    with progress_bar(counted=False, console=Console(stderr=True)) as bar:
        task = bar.add_task(escape(start), total=None)
        for step in steps:
            text = describe(step)
            if text is not None:
                bar.update(task, description=escape(text))
            yield step


def follow_run(steps: Iterator[Event], run_plan: RunPlan, *, slots: int) -> None:
    """Go through the steps of a run to their end, with a bar of its cells and a forecast of the time left.

    slots: how many cells are measured at a time.
    """
    console = Console(stderr=True)
    eta = EtaEstimator(run_plan.left, slots=slots)
    with progress_bar(TextColumn("{task.fields[forecast]}"), counted=True, console=console) as bar:
        planned = len(run_plan.selected)
        task = bar.add_task("starting", total=planned, completed=planned - len(run_plan.left), forecast="")
        for step in steps:
            if isinstance(step, Record):
                eta.end(step.key)
                seconds = eta.seconds()
                bar.update(task, advance=1, forecast="" if seconds is None else f"{format_duration(seconds)} left")
            elif isinstance(step, TornLineRemoved):
                console.print(
                    f"{escape(str(step.path))}: cut off a torn last line of {step.size} bytes, left by a killed run"
                )
            elif isinstance(step, RecordsFileChanged):
                words = f"{step.path}: another program changed it; {step.rewritten} records were written again"
                console.print(escape(words), soft_wrap=True)
            elif isinstance(step, CellStarted):
                eta.start(step.cell)
                words = f"{format_spec(step.cell.measure)}: {step.cell.recipe.title}"
                bar.update(task, description=escape(words))
            else:
                bar.update(task, description=escape(describe_training(step)))
                if isinstance(step, NetworkDiscarded):
                    console.print(escape(describe_training(step)), soft_wrap=True)


def describe_training(step: TrainingProgress) -> str:
    """'training lenet on digits, seed 0: epoch 3, loss 0.123'; or why a network is trained again."""
    if isinstance(step, NetworkDiscarded):
        stored, found = ("not finite" if loss is None else f"{loss:.4g}" for loss in (step.stored, step.found))
        return (
            f"{step.recipe.title}: the stored network has the training loss {found}, not {stored} as stated; "
            "its code has changed, so it is trained again"
        )
    return f"training {step.recipe.title}: epoch {step.epoch.number}, loss {step.epoch.loss:.3f}"


def follow_training(
    steps: Iterator[TrainingEpoch | TrainedRecipe | GroupLost], *, total: int
) -> list[TrainedRecipe | GroupLost]:
    """Go through the steps of a training to their end, with a bar of all networks and one of each in training.

    Returns:
        What became of the networks. A group that could not be trained is also printed on stderr.
    """
    console = Console(stderr=True)
    outcomes: list[TrainedRecipe | GroupLost] = []
    with progress_bar(counted=True, console=console) as bar:
        whole = bar.add_task("networks", total=total)
        tasks: dict[Recipe, TaskID] = {}
        for step in steps:
            if isinstance(step, TrainingEpoch):
                _show_epoch(bar, tasks, step)
                continue
            outcomes.append(step)
            recipes = step.group if isinstance(step, GroupLost) else (step.recipe,)
            bar.advance(whole, len(recipes))
            for recipe in recipes:
                if recipe in tasks:
                    bar.remove_task(tasks.pop(recipe))
            if isinstance(step, GroupLost):
                console.print(f"error: {escape(_group_title(step))}: {escape(step.reason)}", soft_wrap=True)
    return outcomes


def _show_epoch(bar: Progress, tasks: dict[Recipe, TaskID], step: TrainingEpoch) -> None:
    if step.recipe not in tasks:
        tasks[step.recipe] = bar.add_task("", total=step.recipe.max_epochs)
    words = f"{step.recipe.title}: loss {step.epoch.loss:.3f}"
    bar.update(tasks[step.recipe], description=escape(words), completed=step.epoch.number)


def _group_title(step: GroupLost) -> str:
    others = f" and {len(step.group) - 1} more that train with it" if len(step.group) > 1 else ""
    return step.group[0].title + others
