"""Runner: cells in, records out, and on disk as they come. Knows no terminal."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sharpbench.core.jsonl import JsonlFile
from sharpbench.core.record import Record
from sharpbench.core.records import RECORDS, read_statuses
from sharpbench.datasets.dataset import Data, Dataset
from sharpbench.environment import apply_settings, describe_environment
from sharpbench.errors import InvalidInput
from sharpbench.files import Workspace
from sharpbench.runner.cell import Cell, Shard
from sharpbench.runner.engines import CellStarted, Engine, make_engine, schedule
from sharpbench.runner.evaluate_cell import empty_record
from sharpbench.runner.failures import failed_record
from sharpbench.runner.status import StatusFile
from sharpbench.training.population import Population, TrainingEpoch
from sharpbench.training.workers import GroupLost, train_all


@dataclass(frozen=True, slots=True)
class TornLineRemoved:
    """A torn last line, left by a killed run, was cut off: so many bytes of that file."""

    path: Path
    size: int


Event = TrainingEpoch | CellStarted | TornLineRemoved | Record


def run(
    cells: Sequence[Cell],
    *,
    output: Path | str | None = None,
    cache_dir: Path | str | None = None,
    data_dir: Path | str | None = None,
    retry_failed: bool = False,
    threads: int | None = None,
    workers: int = 1,
    plugins: Sequence[Path] = (),
    engine: str | Engine = "inline",
    shard: Shard | None = None,
) -> Iterator[Record]:
    """The records of `cells`, as they are made.

    output: the folder whose records.jsonl they are appended to, each on disk before the next begins; cells
    that stand there already are not run again (failed ones are, with retry_failed). None keeps no file.
    cache_dir: where trained networks are kept. engine: 'inline' measures in this process; 'process' and 'ray', or
    an object of `sharpbench.runner.engines`, in others, whose deaths cost a cell each; they must be able to import the
    classes of all that is in the cells, or execute `plugins` (--plugin files).
    workers: processes that train and measure; with more than 1 what must be trained is trained first. threads: of
    torch, in each process that measures; by default as many as there are cores, shared among the workers.
    shard: the part of the cells that is run here; the others decide as well which networks train together.
    Networks train in groups that all of `cells` fix (see `training.groups`): where one is missing, its whole group
    is trained.
    A measure that raises costs its own cell alone: the record says failed, or skipped for NotApplicable. A
    network that cannot be trained or measured costs its own cells.

    >>> import tempfile
    >>> cohort = "label-noise[ratios=2,seeds=1,train_size=8,max_epochs=1]"
    >>> cells = sharpbench.plan("parameter-norm", "small-mlp", cohort=cohort, timing=0, oracle=0, invariance=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [record.status for record in sharpbench.run(cells, cache_dir=folder)]
    ['ok', 'ok']
    """
    for event in events(
        cells,
        output=output,
        cache_dir=cache_dir,
        data_dir=data_dir,
        retry_failed=retry_failed,
        threads=threads,
        workers=workers,
        plugins=plugins,
        engine=engine,
        shard=shard,
    ):
        if isinstance(event, Record):
            yield event


def events(
    cells: Sequence[Cell],
    *,
    output: Path | str | None = None,
    cache_dir: Path | str | None = None,
    data_dir: Path | str | None = None,
    retry_failed: bool = False,
    threads: int | None = None,
    workers: int = 1,
    plugins: Sequence[Path] = (),
    engine: str | Engine = "inline",
    shard: Shard | None = None,
) -> Generator[Event, None, None]:
    """The same with progress in between: trainings, cells that begin, and repairs."""
    if threads is not None and threads < 1:
        raise InvalidInput(f"threads={threads} must be at least 1, or None for as many as there are cores")
    if workers < 1:
        raise InvalidInput(f"workers={workers} must be at least 1")
    chosen = make_engine(engine) if isinstance(engine, str) else engine
    workspace = Workspace.locate(
        cache_dir=cache_dir,
        data_dir=data_dir,
        device=cells[0].device if cells else "cpu",
        threads=threads or chosen.threads(workers, _cores()),
        plugins=plugins,
    )
    networks = _Networks(cells, workspace)
    if output is None:
        yield from _all(_held(cells, shard), networks, chosen, workers)
        return
    path = Path(output) / RECORDS
    with JsonlFile(path) as file:
        if file.torn:
            yield TornLineRemoved(path, file.torn)
        left = remaining(cells, path, retry_failed=retry_failed, shard=shard)
        planned, words = len(_held(cells, shard)), None if shard is None else f"{shard.index}/{shard.count}"
        with StatusFile(path.parent, planned=planned, left=left, seats=chosen.seats(workers), shard=words) as notes:
            for event in _all(left, networks, chosen, workers):
                if isinstance(event, Record):
                    file.append(event)
                notes.take(event)
                yield event


def remaining(
    cells: Sequence[Cell], path: Path, *, retry_failed: bool = False, shard: Shard | None = None
) -> list[Cell]:
    """The cells that have no record in the file yet; with retry_failed also those whose last one failed."""
    last = read_statuses(path)
    finished = {key for key, status in last.items() if not retry_failed or status in ("ok", "skipped")}
    return [cell for cell in _held(cells, shard) if cell.key not in finished]


def _held(cells: Sequence[Cell], shard: Shard | None) -> Sequence[Cell]:
    return cells if shard is None else [cell for cell in cells if shard.holds(cell)]


class _Networks:
    """Where the networks of a run come from: their data sets and populations, each made once."""

    def __init__(self, cells: Sequence[Cell], workspace: Workspace) -> None:
        self.cells, self.workspace = cells, workspace
        self.populations: dict[Dataset, Population] = {}

    def population(self, cell: Cell) -> Population:
        """All networks of the run on the data set of the cell, whichever of them are still to be measured."""
        dataset = cell.recipe.dataset
        if dataset not in self.populations:
            recipes = dict.fromkeys(each.recipe for each in self.cells if each.recipe.dataset == dataset)
            self.populations[dataset] = Population(
                tuple(recipes),
                dataset.load(self.workspace.data_dir),
                cell.data_sha256,
                cache=self.workspace.cache_dir,
                device=cell.device,
            )
        return self.populations[dataset]

    def data(self, dataset: Dataset) -> Data:
        """The data of a population that was asked for."""
        return self.populations[dataset].data

    def ready(self, cell: Cell) -> Generator[TrainingEpoch, None, Callable[[Cell], Record]]:
        """See `schedule.Ready`."""
        population = self.population(cell)
        truth = yield from population.truth(cell.recipe)
        return partial(empty_record, data=population.data, truth=truth)

    def lost(self, cell: Cell, error: Exception) -> Record:
        """The record of a cell whose network could not be made."""
        return failed_record(empty_record(cell, self.population(cell).data, None), error)

    def trained(self, cells: Sequence[Cell], workers: int) -> Iterator[TrainingEpoch]:
        """Train by workers what these cells need; what is lost is lost to its own cells."""
        training = replace(self.workspace, threads=1)
        for dataset in dict.fromkeys(cell.recipe.dataset for cell in cells):
            first = next(cell for cell in cells if cell.recipe.dataset == dataset)
            population = self.population(first)
            wanted = {cell.recipe for cell in cells}
            groups = [group for group in population.groups if wanted & set(group)]
            for event in train_all(population, groups, training, workers=workers):
                if isinstance(event, TrainingEpoch):
                    yield event
                elif isinstance(event, GroupLost):
                    population.lose(event.group, RuntimeError(event.reason))


def _all(cells: Sequence[Cell], networks: _Networks, engine: Engine, workers: int) -> Iterator[Event]:
    """All cells; what must be trained for them by several workers is trained first."""
    if not cells:
        return
    apply_settings(networks.workspace.device, networks.workspace.threads)
    crew = engine.crew(networks.workspace, workers=workers, load=networks.data)
    try:
        if workers > 1:
            yield from networks.trained(cells, engine.trainers(workers, _cores()))
        yield from schedule(cells, crew, ready=networks.ready, lost=networks.lost)
    finally:
        crew.close()


def _cores() -> int:
    return int(describe_environment("cpu")["cores"] or 1)
