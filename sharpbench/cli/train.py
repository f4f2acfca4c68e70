"""`sharpbench train`: trains the networks of a cohort into the zoo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from sharpbench.cli.command import ConfigOption, PrintConfigOption, format_options
from sharpbench.cli.exits import EXIT_FAILED, Interrupted
from sharpbench.cli.options import (
    DEFAULT_MODELS,
    CacheDirOption,
    CohortOption,
    DataDirOption,
    DatasetOption,
    DeviceOption,
    ModelsOption,
    PluginOption,
    echo_notes,
)
from sharpbench.errors import InvalidInput

if TYPE_CHECKING:
    from sharpbench.training.population import Population, TrainedRecipe
    from sharpbench.training.workers import GroupLost


def train(
    context: typer.Context,
    models: ModelsOption = DEFAULT_MODELS,
    dataset: DatasetOption = "digits",
    cohort: CohortOption = "label-noise",
    device: DeviceOption = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Processes that train side by side.", show_default="all cores; 1 on CUDA")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of torch in each process that trains.")] = 1,
    data_dir: DataDirOption = None,
    cache_dir: CacheDirOption = None,
    plugin: PluginOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be trained, and stop.")] = False,
    config: ConfigOption = None,  # its callback has made its options defaults
    print_config: PrintConfigOption = False,
) -> int:
    """Train the networks of a cohort that are not in the cache yet, and print what became of them.

    Give the same command again to continue an interrupted or killed training from its checkpoints; it ends in the
    same networks. Exit status: 0 all networks are trained, 1 some could not be trained, 2 bad usage or input,
    130 interrupted. A network that does not fit its labels counts as trained, and is marked.
    """
    if print_config:
        typer.echo(format_options(context))
        return 0
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and value < 1:
            raise InvalidInput(f"{name}={value} must be at least 1")
    from sharpbench.cli.bars import announce_step

    with announce_step("planning"):
        from sharpbench.environment import check_threads, describe_environment, resolve_device
        from sharpbench.files import Workspace
        from sharpbench.runner.plan import select_recipes
        from sharpbench.training.population import Population
        from sharpbench.training.workers import train_all

        check_threads(threads)
        place, plugins = resolve_device(device), tuple(plugin or ())
        workspace = Workspace.locate(
            cache_dir=cache_dir, data_dir=data_dir, device=place, threads=threads, plugins=plugins
        )
        selected = select_recipes(models, dataset=dataset, cohort=cohort, data_dir=data_dir, plugins=plugins)
        populations = [
            Population(recipes, data, data.sha256(), cache=workspace.cache_dir, device=place)
            for recipes, data in selected.by_source()
        ]
    echo_notes((recipe.dataset for recipe in selected.populations), workspace.data_dir)
    if dry_run:
        show_groups(populations)
        return 0
    count = workers or (1 if place == "cuda" else int(describe_environment("cpu")["cores"] or 1))
    from sharpbench.cli.progress import follow_training

    steps = [train_all(each, each.groups, workspace, workers=count) for each in populations]
    try:
        outcomes = follow_training(chain.from_iterable(steps), total=len(selected.populations))
    except KeyboardInterrupt:
        for training in steps:
            training.close()
        raise Interrupted() from None
    lost = show_summary(outcomes)
    return EXIT_FAILED if lost else 0


def show_groups(populations: Sequence[Population]) -> None:
    """Print the groups of networks that train together, and how many networks of each are not in the zoo yet."""
    from sharpbench.cli.tables import ruled_table
    from sharpbench.training.recipe import distinct_titles

    table = ruled_table("plan", {"first network of the group": "text", "networks": "number", "to do": "number"})
    total = left = 0
    groups = [(population, group) for population in populations for group in population.groups]
    names = distinct_titles([group[0] for _, group in groups])
    for name, (population, group) in zip(names, groups, strict=True):
        missing = sum(population.stored_result(recipe) is None for recipe in group)
        table.add_row(Text(name), str(len(group)), str(missing))
        total, left = total + len(group), left + missing
    console = Console()
    console.print(table)
    console.print(f"{total} networks in {len(groups)} groups that train together, {left} to do")


def show_summary(outcomes: Sequence[TrainedRecipe | GroupLost]) -> int:
    """Print what became of the networks, and return how many could not be trained."""
    from sharpbench.cli.tables import ruled_table
    from sharpbench.training.population import TrainedRecipe
    from sharpbench.training.workers import GroupLost

    trained = [outcome for outcome in outcomes if isinstance(outcome, TrainedRecipe)]
    lost = sum(len(outcome.group) for outcome in outcomes if isinstance(outcome, GroupLost))
    ends = Counter(_outcome(outcome) for outcome in trained)
    rows = {
        "trained": sum(not outcome.cached for outcome in trained),
        "from the cache": sum(outcome.cached for outcome in trained),
        "fitted": ends["fitted"],
        "not fitted, excluded by the gate": len(trained) - ends["fitted"],
        "  the budget of epochs ended": ends["budget ended"],
        "  diverged": ends["diverged"],
        "could not be trained": lost,
    }
    table = ruled_table("networks", {"outcome": "name", "count": "number"}, show_header=False)
    for name, count in rows.items():
        table.add_row(Text(name), str(count))
    Console().print(table)
    return lost


def _outcome(outcome: TrainedRecipe) -> str:
    if outcome.result.fitted:
        return "fitted"
    return "diverged" if outcome.result.diverged else "budget ended"
