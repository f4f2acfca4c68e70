"""run(): the cells of a plan are evaluated, and their records written as they are made. Knows no terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from sharpbench.core.fields import choose_options
from sharpbench.core.jsonl import JsonlFile
from sharpbench.core.record import Record
from sharpbench.core.records import FINISHED, RECORDS, CellEnd, iterate_records, read_cell_ends
from sharpbench.environment import apply_settings, check_threads, describe_environment
from sharpbench.errors import InvalidInput
from sharpbench.files import Workspace, check_lookup
from sharpbench.runner.cell import Cell, Shard
from sharpbench.runner.engines.engine import Engine, default_gpus, make_engine
from sharpbench.runner.engines.pool import CellStarted
from sharpbench.runner.engines.scheduler import SAME_NETWORK, schedule
from sharpbench.runner.networks import RunNetworks, UntrainedNetworks
from sharpbench.runner.status import StatusFile
from sharpbench.training.population import TrainingProgress
from sharpbench.training.recipe import Recipe, distinct_titles

if TYPE_CHECKING:
    import pandas as pd


PORTION_NETWORKS = 100
"""Networks that several workers train before they measure them: an interrupted run of many has whole networks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How cells are run; nothing here changes a value.

    Attributes:
        output: the folder whose records.jsonl the records are appended to, each on disk before the next cell starts.
            Cells that have a record there are not run again; checks and outcomes that they lack are added. None keeps
            no file.
        engine: 'inline' measures in this process; 'process' and 'ray', or an Engine, in other processes, of which
            each death costs one cell. Those must be able to import the classes in the cells, or execute `plugins`.
        workers: the number of processes that train and measure. With more than 1, they train what is missing of a
            portion of PORTION_NETWORKS, and of the networks that train together with these, then measure the portion,
            and go on with the next.
        threads: threads of torch in each process that measures; None shares the cores among the workers.
        shard: the part of the cells that is run; all cells fix which networks train together.
        retry_failed: whether cells whose last record is a failure are run again, and checks that failed.
        cache_dir: the folder of trained networks; None is $SHARPBENCH_CACHE, or the user's cache.
        data_dir: the folder of data sets; None is $SHARPBENCH_DATA.
        plugins: Python files that other processes execute first.
    """

    output: Path | str | None = None
    engine: str | Engine = "inline"
    workers: int = 1
    threads: int | None = None
    shard: Shard | None = None
    retry_failed: bool = False
    cache_dir: Path | str | None = None
    data_dir: Path | str | None = None
    plugins: Sequence[Path] = ()

    def __post_init__(self) -> None:
        check_threads(self.threads)
        if self.output is not None:
            check_lookup(self.output)
        if self.workers < 1:
            raise InvalidInput(f"workers={self.workers} must be at least 1")

    @property
    def records_path(self) -> Path | None:
        """The file of the records."""
        return None if self.output is None else Path(self.output) / RECORDS


class RunKeywords(TypedDict, total=False):
    """The fields of RunOptions as keywords of `run`."""

    output: Path | str | None
    engine: str | Engine
    workers: int
    threads: int | None
    shard: Shard | None
    retry_failed: bool
    cache_dir: Path | str | None
    data_dir: Path | str | None
    plugins: Sequence[Path]


MAX_SHOWN_NETWORKS = 20
"""Of a plan in a notebook; the table leaves out those in the middle."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The cells of a run, and those that are left to run.

    Attributes:
        cells: all cells; they fix which networks train together.
        selected: the cells of the shard.
        left: the selected cells that have no record yet, or are run again, or lack checks or outcomes. The latter have
            their record as `measured`.
        records_bytes: the size of the file of records when it was read.
    """

    cells: tuple[Cell, ...]
    selected: tuple[Cell, ...]
    left: tuple[Cell, ...]
    records_bytes: int = 0

    def to_frame(self) -> pd.DataFrame:
        """One row per network of the selected cells: its title, the number of its cells, and of those to do."""
        import pandas as pd

        planned, to_do = (Counter(cell.recipe for cell in cells) for cells in (self.selected, self.left))
        recipes = [recipe for recipe in planned if isinstance(recipe, Recipe)]
        own: dict[object, str] = dict(zip(recipes, distinct_titles(recipes), strict=True))
        titles = [own.get(recipe, recipe.title) for recipe in planned]
        rows = [(title, planned[recipe], to_do[recipe]) for title, recipe in zip(titles, planned, strict=True)]
        return pd.DataFrame(rows, columns=["network", "cells", "to do"])

    def count_by_model(self) -> pd.DataFrame:
        """One row per model of the selected cells: the numbers of its networks, of its cells, and of those to do."""
        import pandas as pd

        planned, to_do = (Counter(cell.population for cell in cells) for cells in (self.selected, self.left))
        networks = Counter(model for model, _ in {(cell.population, cell.recipe) for cell in self.selected})
        rows = [(model, networks[model], planned[model], to_do[model]) for model in planned]
        return pd.DataFrame(rows, columns=["model", "networks", "cells", "to do"])

    def __str__(self) -> str:
        """'12 networks, 24 cells, 20 to do', and how many of those are only checks."""
        added = sum(cell.measured is not None for cell in self.left)
        checks = f", {added} of them only checks of values that are known" if added else ""
        networks = len({cell.recipe for cell in self.selected})
        return f"{networks} networks, {len(self.selected)} cells, {len(self.left)} to do{checks}"

    def _repr_html_(self) -> str:
        """The table of `to_frame` and the summary; names are escaped."""
        return f"{self.to_frame().to_html(index=False, max_rows=MAX_SHOWN_NETWORKS)}<p>{self}</p>"


@dataclass(frozen=True, slots=True)
class TornLineRemoved:
    """Progress: an incomplete last line of `size` bytes, left by a killed run, was cut off from the file."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class RecordsFileChanged:
    """Progress: another program changed or replaced the file of records; `rewritten` records were written again."""

    path: Path
    rewritten: int


Event = UntrainedNetworks | TrainingProgress | CellStarted | TornLineRemoved | RecordsFileChanged | Record


def run(
    cells: Sequence[Cell] | RunPlan, options: RunOptions | None = None, **keywords: Unpack[RunKeywords]
) -> Iterator[Record]:
    """The records of the cells, as they are made.

    A measure that raises costs only its own cell, whose record says failed, or skipped for NotApplicable. A network
    that cannot be trained or measured costs its own cells. Networks train in groups that all cells fix: where one
    network is missing, its whole group is trained.

    Args:
        cells: what `plan` returns.
        options: how the cells are run.
        keywords: the fields of RunOptions, instead of `options`.

    Raises:
        InvalidInput: for options that cannot be used or are given twice, and for a file of records that cannot be read
            or written.

    >>> import tempfile
    >>> cohort = "label-noise[ratios=2,seeds=1,train_size=8,max_epochs=1]"
    >>> cells = sharpbench.plan("parameter-norm", "small-mlp", cohort=cohort, timing=0, oracle=0, invariance=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [record.status for record in sharpbench.run(cells, cache_dir=folder)]
    ['ok', 'ok']
    """
    return _only_records(iterate_events(cells, choose_options(RunOptions, options, keywords)))


def iterate_events(cells: Sequence[Cell] | RunPlan, options: RunOptions) -> Generator[Event, None, None]:
    """The records as `run` gives them, with progress between.

    It is the networks to train, epochs of trainings, cells that start, and repairs of the file of records.
    """
    plan = cells if isinstance(cells, RunPlan) else plan_run(cells, options)
    engine = options.engine
    if isinstance(engine, str):
        engine = make_engine(engine, gpus=default_gpus(engine, plan.left))
    workspace = locate_workspace(plan.cells, options, engine)
    networks = RunNetworks(plan.cells, workspace)
    path = options.records_path
    if path is None:
        yield from _run_cells(plan.left, networks, workspace, engine, options.workers)
        return
    with JsonlFile(path) as file:
        if file.torn:
            yield TornLineRemoved(path, file.torn)
        if path.stat().st_size != plan.records_bytes:  # another run wrote between the plan and the lock on the file
            plan = plan_run(plan.cells, options)
        slots, planned = engine.slots(options.workers), len(plan.selected)
        with StatusFile(path.parent, plan.left, planned=planned, slots=slots, shard=options.shard) as status:
            for event in _run_cells(plan.left, networks, workspace, engine, options.workers):
                if isinstance(event, Record):
                    file.append(event)
                    yield from _report_change(file)
                status.update(event)
                yield event
    yield from _report_change(file)


def _report_change(file: JsonlFile) -> Iterator[RecordsFileChanged]:
    if file.moved is not None:
        yield RecordsFileChanged(file.path, file.moved)
        file.moved = None


def plan_run(cells: Sequence[Cell], options: RunOptions) -> RunPlan:
    """The cells of a run with those that are left, according to the records in the output folder.

    Args:
        cells: what `plan` returns.
        options: of the run; `output` and `shard` decide which cells are left.

    Raises:
        InvalidInput: for a file of records that cannot be read.

    >>> cells = sharpbench.plan("trace", "small-mlp", cohort="label-noise[ratios=2,seeds=1]")
    >>> print(sharpbench.plan_run(cells, sharpbench.RunOptions()))
    2 networks, 2 cells, 2 to do
    """
    selected = tuple(cell for cell in cells if options.shard is None or options.shard.holds(cell))
    path = options.records_path
    if path is None:
        return RunPlan(tuple(cells), selected, selected)
    size = path.stat().st_size if path.exists() else 0
    last = read_cell_ends(path)
    left, lacking = [], {}
    for cell in selected:
        end = last.get(cell.key)
        if end is None or (options.retry_failed and end.status not in FINISHED):
            left.append(cell)
        elif end.status == "ok":
            missing = _missing_checks(cell, end, again=options.retry_failed)
            if missing or not end.outcomes.issuperset(cell.outcomes):
                left.append(cell)
                lacking[cell.key] = missing
    if lacking:
        known = {record.key: record for record in iterate_records(path, whole=True) if record.key in lacking}
        left = [_with_value(cell, known[cell.key], lacking[cell.key]) if cell.key in known else cell for cell in left]
    return RunPlan(tuple(cells), selected, tuple(left), size)


def _missing_checks(cell: Cell, end: CellEnd, *, again: bool) -> frozenset[str]:
    """The checks of the cell that were not tried; again: also those that failed."""
    return frozenset(cell.checks.names) - (end.tried - end.failed if again else end.tried)


def _with_value(cell: Cell, record: Record, missing: frozenset[str]) -> Cell:
    """The cell whose value is known and to which only the missing checks, and outcomes, are added."""
    return replace(cell, measured=record, checks=cell.checks.with_names(missing))


def _only_records(events: Iterator[Event]) -> Iterator[Record]:
    for event in events:
        if isinstance(event, Record):
            yield event


def locate_workspace(cells: Sequence[Cell], options: RunOptions, engine: Engine) -> Workspace:
    """The folders, the device and the number of threads of a run of the cells."""
    return Workspace.locate(
        cache_dir=options.cache_dir,
        data_dir=options.data_dir,
        device=cells[0].setting.device if cells else "cpu",
        threads=options.threads or engine.threads(options.workers, _count_cores()),
        plugins=options.plugins,
    )


def _run_cells(
    cells: Sequence[Cell], networks: RunNetworks, workspace: Workspace, engine: Engine, workers: int
) -> Iterator[UntrainedNetworks | TrainingProgress | CellStarted | Record]:
    """Run the cells; several workers train the missing networks of a portion together before they measure them."""
    if not cells:
        return
    untrained = networks.find_untrained(cells)
    if untrained.populations:
        yield untrained
    apply_settings(workspace.device, workspace.threads)
    pool = engine.pool(workspace, workers=workers, load=networks.load)
    try:
        if workers == 1:
            yield from schedule(cells, pool, networks)
            return
        for portion in _portions(cells):
            yield from networks.train_missing(portion, workers=engine.trainers(workers, _count_cores()))
            yield from schedule(portion, pool, networks)
    finally:
        pool.close()


def _portions(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """The cells in their order, those of PORTION_NETWORKS networks at a time."""
    networks = [list(group) for _, group in groupby(cells, key=SAME_NETWORK)]
    for start in range(0, len(networks), PORTION_NETWORKS):
        yield [cell for group in networks[start : start + PORTION_NETWORKS] for cell in group]


def _count_cores() -> int:
    return int(describe_environment("cpu")["cores"] or 1)
