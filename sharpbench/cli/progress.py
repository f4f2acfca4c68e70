"""The progress of runs and trainings, on stderr."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Unpack

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID, TextColumn

from sharpbench.cli.bars import progress_bar
from sharpbench.core.fields import choose_options
from sharpbench.core.record import Record
from sharpbench.core.spec import format_spec
from sharpbench.report.format import format_duration
from sharpbench.runner.cell import Cell
from sharpbench.runner.engines.engine import make_engine
from sharpbench.runner.engines.pool import CellStarted
from sharpbench.runner.eta import EtaEstimator
from sharpbench.runner.networks import UntrainedNetworks
from sharpbench.runner.run import (
    Event,
    RecordsFileChanged,
    RunKeywords,
    RunOptions,
    RunPlan,
    TornLineRemoved,
    iterate_events,
    plan_run,
)
from sharpbench.training.population import NetworkDiscarded, TrainedRecipe, TrainingEpoch, TrainingProgress
from sharpbench.training.recipe import Recipe
from sharpbench.training.workers import GroupLost


def run_with_progress(
    cells: Sequence[Cell] | RunPlan, options: RunOptions | None = None, **keywords: Unpack[RunKeywords]
) -> Iterator[Record]:
    """The records of `run` as they are made, with a bar of the cells and a forecast of the time left.

    The bar is shown in a terminal, and in a notebook where ipywidgets is installed. Elsewhere stderr has a line every
    10 seconds, or as many as $SHARPBENCH_PROGRESS says; 0: none.

    Args:
        cells: as of `run`.
        options: as of `run`.
        keywords: as of `run`.

    Raises:
        InvalidInput: as `run`.

    >>> import tempfile
    >>> cohort = "label-noise[ratios=2,seeds=1,train_size=8,max_epochs=1]"
    >>> cells = sharpbench.plan("parameter-norm", "small-mlp", cohort=cohort, timing=0, oracle=0, invariance=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [record.status for record in sharpbench.run_with_progress(cells, cache_dir=folder)]
    ['ok', 'ok']
    """
    chosen = choose_options(RunOptions, options, keywords)
    run_plan = cells if isinstance(cells, RunPlan) else plan_run(cells, chosen)
    engine = make_engine(chosen.engine) if isinstance(chosen.engine, str) else chosen.engine
    steps = iterate_events(run_plan, replace(chosen, engine=engine))
    return follow_records(steps, run_plan, slots=engine.slots(chosen.workers))


def follow_run(steps: Iterator[Event], run_plan: RunPlan, *, slots: int) -> None:
    """Go through the steps of a run to their end with progress, as `follow_records`."""
    for _ in follow_records(steps, run_plan, slots=slots):
        pass


def follow_records(steps: Iterator[Event], run_plan: RunPlan, *, slots: int) -> Iterator[Record]:
    """The records of a run, with a bar of its cells and a forecast of the time left.

    slots: how many cells are measured at a time.
    """
    console = Console(stderr=True)
    eta = EtaEstimator(run_plan.left, slots=slots)
    with progress_bar(TextColumn("{task.fields[forecast]}"), counted=True, console=console) as bar:
        planned = len(run_plan.selected)
        task = bar.add_task("starting", total=planned, completed=planned - len(run_plan.left), forecast="")
        for step in steps:
            eta.update(step)
            if isinstance(step, Record):
                bar.update(task, advance=1, forecast=_describe_rest(eta))
                yield step
            elif isinstance(step, TornLineRemoved):
                console.print(
                    f"{escape(str(step.path))}: cut off a torn last line of {step.size} bytes, left by a killed run"
                )
            elif isinstance(step, RecordsFileChanged):
                words = f"{step.path}: another program changed it; {step.rewritten} records were written again"
                console.print(escape(words), soft_wrap=True)
            elif isinstance(step, CellStarted):
                words = f"{format_spec(step.cell.measure)}: {step.cell.recipe.title}"
                bar.update(task, description=escape(words))
            elif not isinstance(step, UntrainedNetworks):
                bar.update(task, description=escape(describe_training(step)), forecast=_describe_rest(eta))
                if isinstance(step, NetworkDiscarded):
                    console.print(escape(describe_training(step)), soft_wrap=True)


def _describe_rest(eta: EtaEstimator) -> str:
    """'3 min left', or '3 min of measuring left' where training is not included; empty where nothing is known."""
    seconds = eta.seconds()
    if seconds is None:
        return ""
    return f"{format_duration(seconds)}{'' if eta.training_included else ' of measuring'} left"


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
