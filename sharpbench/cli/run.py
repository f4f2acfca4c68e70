"""`sharpbench run`: measures on the networks of a cohort, and their leaderboard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.command import ConfigOption, PrintConfigOption, format_options
from sharpbench.cli.exits import EXIT_FAILED, Interrupted, records_status, unwritable
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
    from collections.abc import Sequence

    from sharpbench.core.record import Record
    from sharpbench.report.scored_boards import ScoredBoards
    from sharpbench.runner.cell import Cell
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


def chosen_outcomes(given: str, run_plan: RunPlan) -> list[str]:
    """The names of the outcomes of a run that was planned with `given`, in the order of the catalogue."""
    from sharpbench.training.outcomes import OUTCOMES

    named = {name.strip() for name in given.split(",")}
    found = {name for cell in run_plan.cells[:1] for name in cell.outcomes}
    return [name for name, each in OUTCOMES.items() if name in named | found or ("all" in named and each.in_truth)]


def stated_outcomes(records: Sequence[Record]) -> list[str]:
    """The gap, and the names of the outcomes that the records state, in the order of the catalogue."""
    from sharpbench.training.outcomes import OUTCOMES

    stated = {name for record in records for name in record.outcomes}
    return [name for name in OUTCOMES if name == "gap" or name in stated]


def _report_lost(lost: int, planned: int, path: Path) -> int:
    """Print one line on stderr that planned cells have no record, and return the exit status for it."""
    where = f"{lost} of {planned} planned cells have no record in {path}"
    typer.echo(f"error: {where}, which another program changed; give the same command again", err=True)
    return EXIT_FAILED


def _choose_engine(
    name: str | None, run_plan: RunPlan, limits: Limits, *, address: str | None, gpus: float | None
) -> Engine:
    """The engine of that name; without a name, the default one, which is a process wherever there are limits."""
    from sharpbench.runner.engines.engine import make_engine
    from sharpbench.runner.engines.limits import Limits

    if name is None:
        limited = limits != Limits() or address is not None or gpus is not None
        name = "process" if limited else default_engine(run_plan.left)
    if name == "ray" and gpus is None and any(cell.setting.device == "cuda" for cell in run_plan.left):
        gpus = 1.0
    return make_engine(name, limits=limits, address=address, gpus=gpus)


def default_engine(left: Sequence[Cell]) -> str:
    """The engine where none is given: a single cell is not worth starting a process."""
    return "process" if len(left) > 1 else "inline"


def last_records(cells: Sequence[Cell], path: Path, *, parts: bool = True) -> list[Record]:
    """The last record of each cell, in the order of the plan, with the population that the plan assigns to it.

    parts: keep what each parameter contributes, which is most of a record and which no leaderboard shows.
    """
    from sharpbench.core.records import iterate_records
    from sharpbench.runner.evaluate_cell import with_plan

    planned = {cell.key: cell for cell in cells}
    last: dict[str, Record] = {}
    for record in iterate_records(path):
        if record.key in planned:
            latest = with_plan(record, planned[record.key])
            last[record.key] = latest if parts or not latest.parts else replace(latest, parts={})
    return [last[key] for key in planned if key in last]


def write_outcomes(records: Sequence[Record], output: Path, names: Sequence[str], *, full: bool) -> None:
    """Write and print the leaderboard of each outcome; of several, also a page with one table for all.

    The headline scores are written where one of the populations enters them.
    """
    from sharpbench.files import atomic_write
    from sharpbench.report.headline_json import HEADLINE, headline_json
    from sharpbench.report.outcome_table import OUTCOMES_PAGE, outcome_page

    boards = [write_leaderboard(records, output, full=full, outcome=name) for name in names]
    headline = headline_json(boards[0].populations)
    try:
        if len(boards) > 1:
            path = output / OUTCOMES_PAGE
            atomic_write(path, outcome_page(boards))
            typer.echo(f"all outcomes: {path}")
        if headline is None:
            (output / HEADLINE).unlink(missing_ok=True)  # of fewer records, by which a population entered
        else:
            atomic_write(output / HEADLINE, headline)
            typer.echo(f"headline scores: {output / HEADLINE}")
    except OSError as error:
        raise unwritable(output, error) from None


def write_leaderboard(records: Sequence[Record], output: Path, *, full: bool, outcome: str = "gap") -> ScoredBoards:
    """Write the leaderboard and its plots into the output folder, print it, and return it.

    outcome: what measures are judged by; one other than the gap has its own folder and one figure.
    """
    from sharpbench.cli.bars import announce_step
    from sharpbench.report.format import OutcomeLabel
    from sharpbench.report.scored_boards import ScoredBoards
    from sharpbench.training.outcomes import OUTCOMES

    label = OutcomeLabel(outcome, OUTCOMES[outcome].meaning)
    folder = output if outcome == "gap" else output / outcome
    with announce_step(f"scoring by {outcome}"):
        boards = ScoredBoards.from_records(records, label)
    write_boards(boards, folder, full=full, overview_only=outcome != "gap")
    return boards


def write_boards(boards: ScoredBoards, output: Path, *, full: bool, overview_only: bool = False) -> None:
    """Write the boards and their plots into the output folder, and print them.

    Args:
        full: print all tables.
        overview_only: one figure of all measures, and none of each.
    """
    from rich.console import Console

    from sharpbench.cli.bars import announce_step
    from sharpbench.report.scored_boards import PAGE, PLOTS

    try:
        with announce_step("writing the leaderboard"):
            boards.write(output, overview_only=overview_only)
    except OSError as error:
        raise unwritable(output, error) from None
    boards.show(Console(), full=full)
    if not full:
        typer.echo("more columns: --full; what a measure is: sharpbench info MEASURE")
    typer.echo(f"{output / PAGE}, plots in {output / PLOTS}")
