"""Trainings: what would be trained, what is being trained, and what became of it, on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from sharpbench.training.population import Population, Trained, Training
from sharpbench.training.recipe import Recipe, titles
from sharpbench.training.workers import Lost

Event = Training | Trained | Lost


def show_plan(population: Population) -> None:
    """A table of the groups: how many networks train together, and how many of them are in the zoo."""
    table = Table(title="plan", title_justify="left", title_style="bold")
    table.add_column("first network of the group", overflow="fold")
    for heading in ("networks", "to do"):
        table.add_column(heading, justify="right")
    total = left = 0
    names = titles([group[0] for group in population.groups])
    for name, group in zip(names, population.groups, strict=True):
        missing = sum(population.stored(recipe) is None for recipe in group)
        table.add_row(Text(name), str(len(group)), str(missing))
        total, left = total + len(group), left + missing
    console = Console()
    console.print(table)
    console.print(f"{total} networks in {len(population.groups)} groups that train together, {left} to do")


def follow(steps: Iterator[Event], *, total: int) -> list[Trained | Lost]:
    """Go through `steps` to their end with a bar on stderr, and a line for each network in training."""
    console = Console(stderr=True)
    outcomes: list[Trained | Lost] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        whole = bar.add_task("networks", total=total)
        lines: dict[Recipe, TaskID] = {}
        for step in steps:
            if isinstance(step, Training):
                _advance(bar, lines, step)
                continue
            outcomes.append(step)
            recipes = step.group if isinstance(step, Lost) else (step.recipe,)
            bar.advance(whole, len(recipes))
            for recipe in recipes:
                if recipe in lines:
                    bar.remove_task(lines.pop(recipe))
            if isinstance(step, Lost):
                console.print(f"error: {escape(_names(step))}: {escape(step.reason)}", soft_wrap=True)
    return outcomes


def show_summary(outcomes: Sequence[Trained | Lost]) -> int:
    """A table of what became of the networks; how many could not be trained."""
    trained = [outcome for outcome in outcomes if isinstance(outcome, Trained)]
    lost = sum(len(outcome.group) for outcome in outcomes if isinstance(outcome, Lost))
    ends = Counter(_end(outcome) for outcome in trained)
    rows = {
        "trained": sum(not outcome.cached for outcome in trained),
        "from the cache": sum(outcome.cached for outcome in trained),
        "fitted": ends["fitted"],
        "not fitted, excluded by the gate": len(trained) - ends["fitted"],
        "  the budget of epochs ended": ends["budget"],
        "  diverged": ends["diverged"],
        "could not be trained": lost,
    }
    table = Table(title="networks", title_justify="left", title_style="bold", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, count in rows.items():
        table.add_row(Text(name), str(count))
    Console().print(table)
    return lost


def _advance(bar: Progress, lines: dict[Recipe, TaskID], step: Training) -> None:
    words = f"{step.recipe.title}: loss {step.epoch.loss:.3f}"
    if step.recipe not in lines:
        lines[step.recipe] = bar.add_task("", total=step.recipe.max_epochs)
    bar.update(lines[step.recipe], description=escape(words), completed=step.epoch.number)


def _end(outcome: Trained) -> str:
    if outcome.truth.fitted:
        return "fitted"
    return "diverged" if outcome.truth.diverged else "budget"


def _names(step: Lost) -> str:
    others = f" and {len(step.group) - 1} more that train with it" if len(step.group) > 1 else ""
    return step.group[0].title + others
