"""The networks of a run: their data sets and populations, each loaded once, and trained where they are missing."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from sharpbench.core.record import Record
from sharpbench.datasets.dataset import Data
from sharpbench.files import Workspace
from sharpbench.runner.cell import Cell
from sharpbench.runner.cell_record import cell_record
from sharpbench.runner.engines.scheduler import RecordMaker
from sharpbench.runner.failures import failed_record
from sharpbench.training.examples import load_data
from sharpbench.training.population import Population, TrainingEpoch, TrainingProgress
from sharpbench.training.recipe import DataSource, Recipe
from sharpbench.training.workers import GroupLost, train_all
from sharpbench.training.zoo import Zoo


@dataclass(frozen=True, slots=True)
class UntrainedNetworks:
    """Progress: networks of the cells that are left of which the cache holds nothing, with their populations."""

    populations: Mapping[Recipe, str]


class RunNetworks:
    """Where the networks of a run come from.

    All cells of the run, also those that have a record, fix the groups in which networks train together.
    """

    def __init__(self, cells: Sequence[Cell], workspace: Workspace) -> None:
        self._cells, self._workspace = cells, workspace
        self._populations: dict[DataSource, Population] = {}

    def load(self, recipe: Recipe) -> Data:
        """The data of the recipe, for a network of which `prepare` was called."""
        return self._populations[recipe.data_source].data

    def prepare(self, cell: Cell) -> Generator[TrainingProgress, None, RecordMaker]:
        """See scheduler.Networks."""
        if not isinstance(cell.recipe, Recipe):
            return partial(cell_record, data=None, result=None)
        population = self._population(cell.recipe)
        result = yield from population.obtain_result(cell.recipe)
        return partial(cell_record, data=population.data, result=result)

    def lost_record(self, cell: Cell, error: Exception) -> Record:
        """See scheduler.Networks."""
        data = self._population(cell.trained_recipe).data
        return failed_record(cell_record(cell, data, None), error, cell.checks.names)

    def find_untrained(self, cells: Sequence[Cell]) -> UntrainedNetworks:
        """The networks of the cells that are trained here and of which the zoo holds nothing."""
        zoo = Zoo(self._workspace.cache_dir)
        first = {cell.recipe: cell for cell in reversed(cells)}
        return UntrainedNetworks(
            {
                recipe: cell.population
                for recipe, cell in first.items()
                if isinstance(recipe, Recipe) and not zoo.holds(cell.network_key)
            }
        )

    def train_missing(self, cells: Sequence[Cell], *, workers: int) -> Iterator[TrainingEpoch]:
        """Train, in worker processes of one thread, the networks that `cells` need and the zoo does not hold.

        A group that cannot be trained is remembered: `prepare` raises for its networks, and it is not tried again.
        """
        workspace = replace(self._workspace, threads=1)
        needed = dict.fromkeys(cell.recipe for cell in cells if isinstance(cell.recipe, Recipe))
        first = {recipe.data_source: recipe for recipe in reversed(needed)}
        for source in dict.fromkeys(recipe.data_source for recipe in needed):
            population = self._population(first[source])
            wanted = needed.keys() - population.given_up
            groups = [group for group in population.groups if not wanted.isdisjoint(group)]
            for event in train_all(population, groups, workspace, workers=workers):
                if isinstance(event, TrainingEpoch):
                    yield event
                elif isinstance(event, GroupLost):
                    population.give_up(event.group, RuntimeError(event.reason))

    def _population(self, recipe: Recipe) -> Population:
        """All networks of the run on the data of the recipe."""
        source = recipe.data_source
        if source not in self._populations:
            cells = {
                each.recipe: each
                for each in self._cells
                if isinstance(each.recipe, Recipe) and each.recipe.data_source == source
            }
            first = next(iter(cells.values()))
            self._populations[source] = Population(
                tuple(cells),
                load_data(recipe, self._workspace.data_dir),
                first.data_sha256,
                cache=self._workspace.cache_dir,
                device=first.setting.device,
            )
        return self._populations[source]
