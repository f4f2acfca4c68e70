"""`sharpbench train`: the networks of a cohort, trained into the zoo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sharpbench.cli.options import EXIT_FAILED, EXIT_INTERRUPTED
from sharpbench.errors import InvalidInput

if TYPE_CHECKING:
    from sharpbench.training.population import Population, TrainedRecipe
    from sharpbench.training.workers import GroupLost


def train(
    models: Annotated[
        str, typer.Option(help="Comma-separated; 'mlp\\[bias=false]' for one without biases.")
    ] = "lenet,mlp",
    dataset: Annotated[str, typer.Option(help="digits is embedded; mnist is read from --data-dir.")] = "digits",
    cohort: Annotated[
        str, typer.Option(help="Which networks are trained: 'label-noise\\[ratios=11,seeds=10]', or a TOML file.")
    ] = "label-noise",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Processes that train side by side.", show_default="all cores; 1 on CUDA")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of torch in each of them.")] = 1,
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets lie.", show_default="$SHARPBENCH_DATA")] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(help="Where trained networks are kept.", show_default="$SHARPBENCH_CACHE, else the user's cache"),
    ] = None,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(help="A Python file with MODELS, DATASETS, OPTIMIZERS or COHORTS; it is executed."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be trained, and stop.")] = False,
) -> int:
    """Train the networks of a cohort that are not in the cache yet, and say what became of each.

    An interrupted or killed training goes on from its checkpoints, to the same networks, when the same command is
    given again. Exit status: 0 all networks are there, 1 some could not be trained, 2 bad usage or input,
    130 interrupted. A network that does not fit its labels is no failure: it is there, marked.
    """
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and value < 1:
            raise InvalidInput(f"{name}={value} must be at least 1")
    from sharpbench.environment import describe_environment, resolve_device
    from sharpbench.files import Workspace
    from sharpbench.runner.plan import select_recipes
    from sharpbench.training.population import Population
    from sharpbench.training.workers import train_all

    place, plugins = resolve_device(device), tuple(plugin or ())
    workspace = Workspace.locate(cache_dir=cache_dir, data_dir=data_dir, device=place, threads=threads, plugins=plugins)
    recipes, data = select_recipes(models, dataset=dataset, cohort=cohort, data_dir=data_dir, plugins=plugins)
    population = Population(tuple(recipes), data, data.sha256(), cache=workspace.cache_dir, device=place)
    if dry_run:
        show_groups(population)
        return 0
    count = workers or (1 if place == "cuda" else int(describe_environment("cpu")["cores"] or 1))
    from sharpbench.cli.progress import follow_training

    steps = train_all(population, population.groups, workspace, workers=count)
    try:
        outcomes = follow_training(steps, total=len(population.recipes))
    except KeyboardInterrupt:
        steps.close()
        typer.echo("interrupted; give the same command again to go on", err=True)
        return EXIT_INTERRUPTED
    lost = show_summary(outcomes)
    return EXIT_FAILED if lost else 0


def show_groups(population: Population) -> None:
    """A table of the groups: how many networks train together, and how many of them are in the zoo."""
    from sharpbench.training.recipe import distinct_titles

    table = Table(title="plan", title_justify="left", title_style="bold")
    table.add_column("first network of the group", overflow="fold")
    for heading in ("networks", "to do"):
        table.add_column(heading, justify="right")
    total = left = 0
    names = distinct_titles([group[0] for group in population.groups])
    for name, group in zip(names, population.groups, strict=True):
        missing = sum(population.stored_result(recipe) is None for recipe in group)
        table.add_row(Text(name), str(len(group)), str(missing))
        total, left = total + len(group), left + missing
    console = Console()
    console.print(table)
    console.print(f"{total} networks in {len(population.groups)} groups that train together, {left} to do")


def show_summary(outcomes: Sequence[TrainedRecipe | GroupLost]) -> int:
    """A table of what became of the networks; how many could not be trained."""
    from sharpbench.training.population import TrainedRecipe
    from sharpbench.training.workers import GroupLost

    trained = [outcome for outcome in outcomes if isinstance(outcome, TrainedRecipe)]
    lost = sum(len(outcome.group) for outcome in outcomes if isinstance(outcome, GroupLost))
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


def _end(outcome: TrainedRecipe) -> str:
    if outcome.result.fitted:
        return "fitted"
    return "diverged" if outcome.result.diverged else "budget"
