"""`sharpbench replay`: repeats a paper's experiments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.boards import last_records
from sharpbench.cli.exits import Interrupted, records_status
from sharpbench.cli.options import CacheDirOption, DataDirOption, DeviceOption, ThreadsOption, WorkersOption
from sharpbench.errors import InvalidInput
from sharpbench.version import __version__

if TYPE_CHECKING:
    from sharpbench.core.record import Record
    from sharpbench.replays.replay import Experiment, Replay

PAGE = "REPLAY.md"


def replay(
    name: Annotated[
        str,
        typer.Argument(
            help="minimum-sharpness-2021, asam-2021, friendly-sam-2024, edge-of-stability-2021 or timm-results."
        ),
    ],
    scale: Annotated[
        str | None,
        typer.Option(
            help="archive: what the authors published; quick: from scratch in minutes; paper: the paper's own size.",
            show_default="the first that the replay has",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of REPLAY.md, figures and records.", show_default="sharpbench-results/replay-NAME"),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    workers: WorkersOption = 1,
    data_dir: DataDirOption = None,
    cache_dir: CacheDirOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the time and the networks that it would take, and stop.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed cells of an earlier replay again.")
    ] = False,
) -> int:
    """Repeat a paper's experiments, from the data that its authors published or from scratch.

    Give the same command again to continue an interrupted replay. Exit status: 0 all cells ok or skipped, 1 some
    failed, 2 bad usage or input, 130 interrupted.
    """
    from sharpbench.cli.bars import announce_step
    from sharpbench.environment import apply_settings, check_threads, resolve_device
    from sharpbench.files import Workspace
    from sharpbench.replays.catalog import parse_replay, parse_scale

    chosen = parse_replay(name)
    size = parse_scale(chosen, scale)
    check_threads(threads)
    if workers < 1:
        raise InvalidInput(f"workers={workers} must be at least 1")
    workspace = Workspace.locate(cache_dir=cache_dir, data_dir=data_dir, device=resolve_device(device))
    folder = output or Path("sharpbench-results") / f"replay-{chosen.name}"
    experiment = chosen.experiment(size)
    import torch

    apply_settings(workspace.device, threads or torch.get_num_threads())
    if dry_run:
        _show_forecast(chosen, size, experiment, workspace.device)
        return 0
    records: list[Record] = []
    found = {}
    if experiment is not None:
        from sharpbench.cli.progress import follow_run
        from sharpbench.core.records import RECORDS
        from sharpbench.replays.study import run_study
        from sharpbench.runner.engines.engine import default_engine, make_engine
        from sharpbench.runner.run import RunOptions, iterate_events, plan_run

        options = RunOptions(
            output=folder,
            workers=workers,
            threads=threads or (torch.get_num_threads() if workers == 1 else None),
            retry_failed=retry_failed,
            cache_dir=cache_dir,
            data_dir=data_dir,
        )
        try:
            cells = experiment.cells(workspace)
            if cells:
                run_plan = plan_run(cells, options)
                engine = make_engine(default_engine(run_plan.left))
                events = iterate_events(run_plan, replace(options, engine=engine))
                follow_run(events, run_plan, slots=engine.slots(workers))
            for study in experiment.studies:
                networks = f": {len(study.recipes)} networks" if study.recipes else ""
                with announce_step(f"{study.name}{networks}"):
                    found[study.name] = run_study(study, workspace, folder)
        except KeyboardInterrupt:
            raise Interrupted() from None
        records = last_records(cells, folder / RECORDS)
    from rich.console import Console

    from sharpbench.report.page import show_page, write_page

    with announce_step("judging the records"):
        page = chosen.page(size, records, found)
    command = f"sharpbench replay {chosen.name} --scale {size}"
    written = write_page(page, folder, name=PAGE, version=__version__, command=command)
    show_page(page, Console())
    typer.echo(", ".join(str(path) for path in written if path.suffix != ".png"))
    return records_status(records)


def _show_forecast(chosen: Replay, scale: str, experiment: Experiment | None, device: str) -> None:
    """Print what a replay will train, and how long that will take."""
    from rich.console import Console

    from sharpbench.replays.cost_estimate import cost_table, estimate_cost
    from sharpbench.report.page import Page, Section, show_page

    if experiment is None:
        typer.echo(f"{chosen.name}, scale {scale}: trains nothing")
        return
    if not experiment.recipes:
        typer.echo(f"{chosen.name}, scale {scale}: trains {experiment.title}, in minutes")
        return
    studies = ", ".join(study.name for study in experiment.studies)
    words = "This is the most that it takes, as networks stop when they fit their labels. Networks train one after "
    words += "the other, on this machine as it is now"
    words += f"; the studies ({studies}) are not included." if studies else "."
    blocks = (f"Size: {experiment.title}.", cost_table(list(estimate_cost(experiment, device=device))), words)
    show_page(Page(chosen.title, (Section(f"scale {scale}, forecast", blocks),)), Console())
