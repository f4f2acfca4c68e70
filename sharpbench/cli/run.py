"""`sharpbench run`: a cohort of networks, measures on each, the leaderboard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.options import EXIT_FAILED, EXIT_INTERRUPTED
from sharpbench.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sharpbench.core.record import Record
    from sharpbench.runner.cell import Cell


def run(
    measures: Annotated[
        str,
        typer.Option(help="Comma-separated; parameters in brackets: 'normalized\\[diagonal=icml,samples=20]'."),
    ] = "trace,fisher-rao,normalized,minimum",
    models: Annotated[
        str, typer.Option(help="Comma-separated; 'mlp\\[bias=false]' for one without biases.")
    ] = "lenet,mlp",
    dataset: Annotated[str, typer.Option(help="digits is embedded; mnist is read from --data-dir.")] = "digits",
    cohort: Annotated[
        str, typer.Option(help="Which networks are trained: 'label-noise\\[ratios=11,seeds=10]', or a TOML file.")
    ] = "label-noise",
    output: Annotated[
        Path, typer.Option(help="Folder of records.jsonl, LEADERBOARD.md, leaderboard.json and plots.")
    ] = Path("sharpbench-results"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or float64, in which measures are evaluated.")] = "float32",
    seed: Annotated[int, typer.Option(help="Of the random probes of measures.")] = 0,
    examples: Annotated[
        int | None,
        typer.Option(help="Measure on the first so many training examples of each network.", show_default="all"),
    ] = None,
    timing: Annotated[
        int,
        typer.Option(help="Time every measure alone on so many networks of each model; 0 leaves the columns empty."),
    ] = 1,
    oracle: Annotated[
        int, typer.Option(help="Check every measure against its oracle on so many networks of each model.")
    ] = 1,
    invariance: Annotated[
        int,
        typer.Option(help="Find out on so many networks of each model how rewrites of the same function change it."),
    ] = 1,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Where cells are measured: inline (in this process), process or ray.",
            show_default="process; inline for a single cell",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes that train and measure; 1 trains in this one and measures in another.")
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads of torch in each process that measures, fixed and recorded.",
            show_default="all cores, shared among the workers; 1 on ray",
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that a cell may take.", show_default="no limit")
    ] = None,
    memory_limit: Annotated[
        str | None, typer.Option(help="Memory that a process may take: 8GiB.", show_default="no limit")
    ] = None,
    split: Annotated[int, typer.Option(help="Divide the batches of every cell among so many of the workers.")] = 1,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; auto finds one.", show_default="one is started here")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="GPUs of each worker on ray; 0.5 for two on one.", show_default="0; 1 on CUDA")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Run one part of the plan alone: 3/8 is the third of eight.", show_default="all")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets lie.", show_default="$SHARPBENCH_DATA")] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(help="Where trained networks are kept.", show_default="$SHARPBENCH_CACHE, else the user's cache"),
    ] = None,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(help="A Python file with MEASURES, MODELS, DATASETS, OPTIMIZERS or COHORTS; it is executed."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run, and stop.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed cells of an earlier run again.")
    ] = False,
    allow_failures: Annotated[bool, typer.Option("--allow-failures", help="Exit 0 although cells failed.")] = False,
) -> int:
    """Train (or load) the networks of a cohort, evaluate measures on them, and print the leaderboard.

    An interrupted run goes on where it stopped when the same command is given again. Exit status: 0 all cells
    ok or skipped, 1 some failed, 2 bad usage or input, 130 interrupted.
    """
    from sharpbench.runner.cell import Shard
    from sharpbench.runner.engines.limits import Limits, parse_bytes

    part = None if shard is None else Shard.parse(shard)
    memory = None if memory_limit is None else parse_bytes(memory_limit)
    limits = Limits(timeout=timeout, memory=memory, pieces=split)
    plain = limits == Limits() and address is None and gpus is None
    from sharpbench.runner.plan import plan

    cells = plan(
        measures,
        models,
        dataset=dataset,
        cohort=cohort,
        seed=seed,
        dtype=dtype,  # type: ignore[arg-type]  # plan checks it
        device=device,
        examples=examples,
        timing=timing,
        oracle=oracle,
        invariance=invariance,
        data_dir=data_dir,
        plugins=plugin or (),
    )
    from sharpbench.core.records import RECORDS
    from sharpbench.runner.engines.engine import make_engine
    from sharpbench.runner.run import RunOptions, iterate_events, plan_run

    options = RunOptions(
        output=output,
        workers=workers,
        threads=threads,
        shard=part,
        retry_failed=retry_failed,
        cache_dir=cache_dir,
        data_dir=data_dir,
        plugins=plugin or (),
    )
    run_plan = plan_run(cells, options)
    selected, left = run_plan.selected, run_plan.left
    word = engine or (default_engine(left) if plain else "process")
    on_cuda = word == "ray" and gpus is None and any(cell.setting.device == "cuda" for cell in left)
    chosen = make_engine(word, limits=limits, address=address, gpus=1.0 if on_cuda else gpus)
    if dry_run:
        _show_plan(selected, left)
        return 0
    from sharpbench.cli.progress import follow_run

    steps = iterate_events(run_plan, replace(options, engine=chosen))
    try:
        follow_run(steps, cells=left, done=len(selected) - len(left), seats=chosen.slots(workers))
    except KeyboardInterrupt:
        steps.close()
        typer.echo("interrupted; give the same command again to go on", err=True)
        return EXIT_INTERRUPTED
    records = last_records(selected, output / RECORDS, parts=False)
    write_leaderboard(records, output)
    failed = sum(record.status not in ("ok", "skipped") for record in records)
    return EXIT_FAILED if failed and not allow_failures else 0


def default_engine(left: Sequence[Cell]) -> str:
    """Where cells are measured if nothing is said: one alone is not worth a process of its own."""
    return "process" if len(left) > 1 else "inline"


def _show_plan(cells: Sequence[Cell], left: Sequence[Cell]) -> None:
    from collections import Counter

    from rich.console import Console

    from sharpbench.cli.tables import show_plan
    from sharpbench.core.spec import format_spec
    from sharpbench.training.recipe import distinct_titles

    every, open_ = (Counter(cell.recipe for cell in some) for some in (cells, left))
    names = distinct_titles(list(every))
    networks = [(name, count, open_[recipe]) for name, (recipe, count) in zip(names, every.items(), strict=True)]
    show_plan(networks, list(dict.fromkeys(format_spec(cell.measure) for cell in cells)), Console())


def last_records(cells: Sequence[Cell], path: Path, *, parts: bool = True) -> list[Record]:
    """The last record of each cell, in the order of the plan, as part of the population that the plan has it in.

    parts: with what each parameter contributes, which no leaderboard shows and which is most of a record.
    """
    from dataclasses import replace

    from sharpbench.core.records import iterate_records
    from sharpbench.runner.evaluate_cell import population_fields

    wanted = {cell.key: cell for cell in cells}
    last: dict[str, Record] = {}
    for record in iterate_records(path):
        if record.key in wanted:
            data = {**record.data, **population_fields(wanted[record.key])}
            held = record if data == record.data else replace(record, data=data)
            last[record.key] = held if parts or not held.parts else replace(held, parts={})
    return [last[key] for key in wanted if key in last]


def write_leaderboard(records: Sequence[Record], output: Path) -> None:
    """Print the leaderboard, and write it with its plots into the output folder."""
    from rich.console import Console

    from sharpbench.analysis.scores import score_records, scores_json
    from sharpbench.errors import InvalidInput
    from sharpbench.report import console, markdown, plots

    scores = score_records(records)
    console.show_boards(scores, records, Console())
    page = markdown.markdown_leaderboard(scores, records, version=__version__, overview="plots/overview.svg")
    try:
        plots.plot_populations(records, output / "plots")
        (output / "LEADERBOARD.md").write_text(page, encoding="utf-8")
        (output / "leaderboard.json").write_text(scores_json(scores), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InvalidInput(
            f"cannot write into '{output}' ({error.strerror}); make room, or choose another --output"
        ) from None
    typer.echo(f"{output / 'LEADERBOARD.md'}, plots in {output / 'plots'}")
