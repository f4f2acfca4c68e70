"""`sharpbench replay`: a paper's experiments done again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.options import EXIT_FAILED, EXIT_INTERRUPTED
from sharpbench.cli.run import default_engine, last_records
from sharpbench.version import __version__

if TYPE_CHECKING:
    from sharpbench.core.record import Record
    from sharpbench.replays.replay import Experiment, Replay

PAGE = "REPLAY.md"


def replay(
    name: Annotated[str, typer.Argument(help="minimum-sharpness-2021, asam-2021 or friendly-sam-2024.")],
    scale: Annotated[
        str | None,
        typer.Option(help="archive: what was published; quick: from scratch in minutes; paper: the paper's own size."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of REPLAY.md, figures and records.", show_default="sharpbench-results/replay-NAME"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="As for run.", show_default="all cores")] = None,
    workers: Annotated[int, typer.Option(help="As for run.")] = 1,
    data_dir: Annotated[Path | None, typer.Option(help="As for run.", show_default="$SHARPBENCH_DATA")] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="As for run.", show_default="$SHARPBENCH_CACHE, else the user's cache")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would take, and stop.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed cells of an earlier replay again.")
    ] = False,
) -> int:
    """Do a paper's experiments again: from what its authors published, and from scratch.

    An interrupted replay goes on where it stopped when the same command is given again. Exit statuses as of run.
    """
    from sharpbench.environment import apply_settings, resolve_device
    from sharpbench.errors import InvalidInput
    from sharpbench.files import Workspace
    from sharpbench.replays.catalog import parse_replay, parse_scale

    chosen = parse_replay(name)
    size = parse_scale(chosen, scale)
    if threads is not None and threads < 1:
        raise InvalidInput(f"threads={threads} must be at least 1, or None for as many as there are cores")
    workspace = Workspace.locate(cache_dir=cache_dir, data_dir=data_dir, device=resolve_device(device))
    folder = output or Path("sharpbench-results") / f"replay-{chosen.name}"
    experiment = chosen.experiment(size)
    import torch

    apply_settings(workspace.device, threads or torch.get_num_threads())
    if dry_run:
        _show_outlook(chosen, size, experiment, workspace.device)
        return 0
    records: list[Record] = []
    found = {}
    if experiment is not None:
        from sharpbench.cli.progress import follow_run
        from sharpbench.core.records import RECORDS
        from sharpbench.replays.study import run_study
        from sharpbench.runner.engines.engine import make_engine
        from sharpbench.runner.run import RunOptions, iterate_events, plan_run

        try:
            cells = experiment.cells(workspace)
            options = RunOptions(
                output=folder,
                workers=workers,
                threads=threads or (torch.get_num_threads() if workers == 1 else None),
                retry_failed=retry_failed,
                cache_dir=cache_dir,
                data_dir=data_dir,
            )
            run_plan = plan_run(cells, options)
            engine = make_engine(default_engine(run_plan.left))
            steps = iterate_events(run_plan, replace(options, engine=engine))
            done = len(cells) - len(run_plan.left)
            follow_run(steps, cells=run_plan.left, done=done, seats=engine.slots(workers))
            for study in experiment.studies:
                typer.echo(f"{study.name}: {len(study.recipes)} networks", err=True)
                found[study.name] = run_study(study, workspace, folder)
        except KeyboardInterrupt:
            typer.echo("interrupted; give the same command again to go on", err=True)
            return EXIT_INTERRUPTED
        records = last_records(cells, folder / RECORDS)
    from rich.console import Console

    from sharpbench.report.page import show_page, write_page

    page = chosen.page(size, records, found)
    show_page(page, Console())
    command = f"sharpbench replay {chosen.name} --scale {size}"
    written = write_page(page, folder, name=PAGE, version=__version__, command=command)
    typer.echo(", ".join(str(path) for path in written if path.suffix != ".png"))
    return EXIT_FAILED if any(record.status not in ("ok", "skipped") for record in records) else 0


def _show_outlook(chosen: Replay, scale: str, experiment: Experiment | None, device: str) -> None:
    from rich.console import Console

    from sharpbench.replays.cost_estimate import cost_table, estimate_cost
    from sharpbench.report.page import Page, Section, show_page

    if experiment is None:
        typer.echo(f"{chosen.name}, scale {scale}: trains nothing")
        return
    studies = ", ".join(study.name for study in experiment.studies)
    words = "At most: networks stop when they have fitted. One after the other, on this machine as it is now, "
    words += f"without the studies ({studies})." if studies else "all told."
    blocks = (f"Size: {experiment.title}.", cost_table(list(estimate_cost(experiment, device=device))), words)
    show_page(Page(chosen.title, (Section(f"scale {scale}, forecast", blocks),)), Console())
