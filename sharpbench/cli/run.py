"""`sharpbench run`: measures on the networks of a cohort, and their leaderboard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.boards import chosen_outcomes, last_records, write_outcomes
from sharpbench.cli.command import ConfigOption, PrintConfigOption, format_options
from sharpbench.cli.exits import EXIT_FAILED, Interrupted, records_status
from sharpbench.cli.foreign_networks import echo_choices, echo_shortfalls, refuse_recipe_options
from sharpbench.cli.options import (
    DEFAULT_MEASURES,
    DEFAULT_MODELS,
    THREADS_HELP,
    CacheDirOption,
    CohortOption,
    DataDirOption,
    DatasetOption,
    DeviceOption,
    DtypeOption,
    FullOption,
    MeasuresOption,
    ModelsOption,
    PluginOption,
    PopulationOption,
    ProbeSeedOption,
    WorkersOption,
    echo_notes,
)

if TYPE_CHECKING:
    from sharpbench.runner.engines.engine import Engine
    from sharpbench.runner.engines.limits import Limits
    from sharpbench.runner.run import RunPlan


def run(
    context: typer.Context,
    measures: MeasuresOption = DEFAULT_MEASURES,
    models: ModelsOption = DEFAULT_MODELS,
    dataset: DatasetOption = "digits",
    cohort: CohortOption = "label-noise",
    population: PopulationOption = None,
    output: Annotated[
        Path, typer.Option(help="Folder of records.jsonl, LEADERBOARD.md, leaderboard.json and plots.")
    ] = Path("sharpbench-results"),
    device: DeviceOption = "auto",
    dtype: DtypeOption = "float32",
    seed: ProbeSeedOption = 0,
    examples: Annotated[
        int | None,
        typer.Option(help="Measure on the first N training examples of each network.", show_default="all"),
    ] = None,
    timing: Annotated[
        int, typer.Option(help="Time every measure by itself on N networks of each model; 0 leaves the columns empty.")
    ] = 1,
    oracle: Annotated[int, typer.Option(help="Compare every measure with its oracle on N networks of each model.")] = 1,
    invariance: Annotated[
        int,
        typer.Option(help="Evaluate every measure at other weights of the same function, on N networks of each model."),
    ] = 1,
    outcomes: Annotated[
        str,
        typer.Option(
            help="What measures are judged by, comma-separated: gap, loss-gap, quantised-4, ...; all takes every one. "
            "Each has its board; those other than gap are in folders of their names."
        ),
    ] = "gap",
    engine: Annotated[
        str | None,
        typer.Option(
            help="Where cells are measured: inline (in this process), process or ray.",
            show_default="process; inline for a single cell",
        ),
    ] = None,
    workers: WorkersOption = 1,
    threads: Annotated[
        int | None,
        typer.Option(help=THREADS_HELP, show_default="all cores, shared among the workers; 1 on ray"),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that a cell may take.", show_default="no limit")
    ] = None,
    memory_limit: Annotated[
        str | None, typer.Option(help="Memory that a process may take, such as 8GiB.", show_default="no limit")
    ] = None,
    split: Annotated[int, typer.Option(help="Divide the batches of every cell among N of the workers.")] = 1,
    address: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster; auto finds one.", show_default="a cluster is started here"),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(help="GPUs of each worker on ray; 0.5 puts two workers on one.", show_default="0; 1 on CUDA"),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Run only one part of the plan: 3/8 is the third of eight.", show_default="all")
    ] = None,
    data_dir: DataDirOption = None,
    cache_dir: CacheDirOption = None,
    plugin: PluginOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would run, and a forecast; then stop.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed cells of an earlier run again.")
    ] = False,
    allow_failures: Annotated[bool, typer.Option("--allow-failures", help="Exit 0 even if cells failed.")] = False,
    full: FullOption = False,
    config: ConfigOption = None,  # its callback has made its options defaults
    print_config: PrintConfigOption = False,
) -> int:
    """Train (or load) the networks of a cohort, evaluate measures on them, and print the leaderboard.

    Give the same command again to continue an interrupted run. Exit status: 0 all cells ok or skipped, 1 some failed,
    2 bad usage or input, 130 interrupted.
    """
    if print_config:
        typer.echo(format_options(context))
        return 0
    from sharpbench.cli.bars import announce_step

    with announce_step("planning"):
        from sharpbench.runner.cell import Shard
        from sharpbench.runner.engines.limits import Limits, parse_bytes
        from sharpbench.runner.foreign.plan import PopulationOptions, plan_population
        from sharpbench.runner.plan import plan
        from sharpbench.runner.run import RunOptions, iterate_events, locate_workspace, plan_run

        options = RunOptions(
            output=output,
            workers=workers,
            threads=threads,
            shard=None if shard is None else Shard.parse(shard),
            retry_failed=retry_failed,
            cache_dir=cache_dir,
            data_dir=data_dir,
            plugins=plugin or (),
        )
        memory = None if memory_limit is None else parse_bytes(memory_limit)
        limits = Limits(timeout=timeout, memory=memory, pieces=split)
        plan_options = PopulationOptions(
            seed=seed,
            dtype=dtype,  # type: ignore[arg-type]  # it checks
            device=device,
            examples=examples,
            timing=timing,
            oracle=oracle,
            invariance=invariance,
            data_dir=data_dir,
            plugins=plugin or (),
            cache_dir=cache_dir,
        )
        if population is None:
            cells = plan(measures, models, plan_options, dataset=dataset, cohort=cohort, outcomes=outcomes)
        else:
            refuse_recipe_options(context)
            cells = plan_population(measures, population, plan_options)
        run_plan = plan_run(cells, options)
    echo_notes((cell.recipe.dataset for cell in cells), data_dir)
    echo_choices(cells)
    chosen = _choose_engine(engine, run_plan, limits, address=address, gpus=gpus)
    slots = chosen.slots(workers)
    if dry_run:
        from sharpbench.cli.dry_run import show_forecast, show_plan

        show_plan(run_plan, full=full)
        if run_plan.left:
            show_forecast(run_plan.left, locate_workspace(cells, options, chosen))
        return 0
    from sharpbench.cli.progress import follow_run
    from sharpbench.core.records import RECORDS

    steps = iterate_events(run_plan, replace(options, engine=chosen))
    try:
        follow_run(steps, run_plan, slots=slots)
    except KeyboardInterrupt:
        steps.close()
        raise Interrupted() from None
    records = last_records(run_plan.selected, output / RECORDS, parts=False)
    write_outcomes(records, output, chosen_outcomes(outcomes, run_plan), full=full)
    echo_shortfalls(records)
    if lost := len(run_plan.selected) - len(records):
        return _report_lost(lost, len(run_plan.selected), output / RECORDS)
    return 0 if allow_failures else records_status(records)


def _report_lost(lost: int, planned: int, path: Path) -> int:
    """Print one line on stderr that planned cells have no record, and return the exit status for it."""
    where = f"{lost} of {planned} planned cells have no record in {path}"
    typer.echo(f"error: {where}, which another program changed; give the same command again", err=True)
    return EXIT_FAILED


def _choose_engine(
    name: str | None, run_plan: RunPlan, limits: Limits, *, address: str | None, gpus: float | None
) -> Engine:
    """The engine of that name; without a name, the default one, which is a process wherever there are limits."""
    from sharpbench.runner.engines.engine import default_engine, default_gpus, make_engine
    from sharpbench.runner.engines.limits import Limits

    if name is None:
        limited = limits != Limits() or address is not None or gpus is not None
        name = "process" if limited else default_engine(run_plan.left)
    if gpus is None:
        gpus = default_gpus(name, run_plan.left)
    return make_engine(name, limits=limits, address=address, gpus=gpus)
