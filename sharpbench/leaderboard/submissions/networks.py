"""The networks of a submission, trained here or taken from the cache, and why some cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sharpbench.core.record import Record
from sharpbench.datasets.dataset import Data
from sharpbench.environment import resolve_device
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import Workspace
from sharpbench.leaderboard.submissions.claims import hash_network, network_position
from sharpbench.leaderboard.submissions.sampling import InstalledParts, Recomputable
from sharpbench.leaderboard.submissions.submission import Submission
from sharpbench.models.model import Model
from sharpbench.runner.engines.limits import format_bytes
from sharpbench.runner.failures import failure_status
from sharpbench.training.examples import initial_module, load_data
from sharpbench.training.population import Population
from sharpbench.training.recipe import DataSource, Recipe, parse_recipe

MAX_TRAINING_WORK = 1e13
"""Parameters times examples times epochs of a training; a longer training is not repeated to verify a sample."""
TRAINING_BYTES_PER_PARAMETER = 16
"""The least that a training in float32 holds: weights before and after it, gradients and momentum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationSetting:
    """Where and with what cells are recomputed.

    Attributes:
        workspace: the folders of networks and data, and the plugins.
        known: the measures and parts of recipes that are installed.
        memory: bytes that a process may hold; networks that certainly need more are not trained. None is no limit.
    """

    workspace: Workspace
    known: InstalledParts
    memory: int | None = None


class NotReproducible(Exception):
    """A cell cannot be recomputed here; the message says why.

    Attributes:
        limited: whether a limit of time or memory is the reason.
    """

    def __init__(self, reason: str, *, limited: bool = False) -> None:
        super().__init__(reason)
        self.limited = limited


class SubmittedPopulations:
    """The networks of a submission by model, data set and device, and their structures; each is made once."""

    def __init__(self, submission: Submission, setting: VerificationSetting) -> None:
        self.submission, self.setting = submission, setting
        self.data: dict[DataSource, tuple[Data, str] | str] = {}
        self.made: dict[tuple[Model, DataSource, str], Population] = {}
        self.modules: dict[tuple[Model, DataSource], nn.Module] = {}
        self.sizes: dict[tuple[Model, DataSource], int] = {}
        self.retrained: dict[tuple[Model, DataSource, str], Population] = {}

    def of(self, cell: Recomputable) -> Population:
        """All networks with the model, data set and device of the cell.

        Networks of different models never train together, so the groups are those of the run.

        Raises:
            NotReproducible: where they cannot be made here.
        """
        recipe, device = cell.recipe, cell.record.device
        if device != resolve_device("cpu" if device == "cpu" else "auto"):
            raise NotReproducible(f"measured on {device}, which this machine does not have")
        here = recipe.identify(images=recipe.inputs is not None)
        if recipe.code is not None and recipe.code != here.code:
            raise NotReproducible(f"its code is '{shorten(recipe.code)}', here it is '{shorten(str(here.code))}'")
        data, digest = self._data(recipe)
        if digest != cell.record.data["sha256"]:
            raise NotReproducible("the data on this machine have another content")
        work = self._work(recipe, data)
        if work > MAX_TRAINING_WORK:
            raise NotReproducible(
                f"its training may take {work:.0e} parameters x examples x epochs, over {MAX_TRAINING_WORK:.0e}",
                limited=True,
            )
        needed, memory = TRAINING_BYTES_PER_PARAMETER * self._size(cell.recipe, data), self.setting.memory
        if memory is not None and needed > memory:
            raise NotReproducible(
                f"its training needs {format_bytes(needed)} at least, where --memory-limit is {format_bytes(memory)}",
                limited=True,
            )
        kind = _population_key(cell)
        if kind not in self.made:
            recipes = self._recipes(recipe, data, device)
            cache = self.setting.workspace.cache_dir
            self.made[kind] = Population(recipes, data, digest, cache=cache, device=device, checked=False)
        return self.made[kind]

    def retrain(self, cell: Recomputable, folder: Path) -> Population:
        """The same networks, trained again into `folder` in the groups of the submission; call `of` before."""
        kind = _population_key(cell)
        if kind not in self.retrained:
            known = self.made[kind]
            self.retrained[kind] = Population(
                known.recipes, known.data, known.data_sha256, cache=folder, device=known.device
            )
        return self.retrained[kind]

    def give_up(self, cell: Recomputable, reason: str, folder: Path) -> None:
        """Do not train the group of the cell's network any more: its training exceeded a limit before."""
        error = NotReproducible(reason, limited=True)
        for population in (self.of(cell), self.retrain(cell, folder)):
            population.give_up(next(group for group in population.groups if cell.recipe in group), error)

    def module(self, recipe: Recipe) -> nn.Module:
        """One module for all networks of a model, so that its graph is captured once. Raises NotReproducible."""
        form = (recipe.model, recipe.data_source)
        if form not in self.modules:
            data, _ = self._data(recipe)
            try:
                self.modules[form] = initial_module(recipe, data.shape, data.classes)
            except Exception as error:  # whatever a model raises
                status, reason = failure_status(error)
                raise NotReproducible(f"its network cannot be built here: {reason}", limited=status == "oom") from None
        return self.modules[form]

    def _data(self, recipe: Recipe) -> tuple[Data, str]:
        """The data of the recipe and the hash of their content."""
        source = recipe.data_source
        if source not in self.data:
            try:
                data = load_data(recipe, self.setting.workspace.data_dir)
                self.data[source] = data, data.sha256()
            except InvalidInput as error:
                self.data[source] = f"its data are not on this machine: {error}"
        found = self.data[source]
        if isinstance(found, str):
            raise NotReproducible(found)
        return found

    def _recipes(self, like: Recipe, data: Data, device: str) -> tuple[Recipe, ...]:
        """The recipes of the submission with that model and data set, in the order of the run.

        That is the order of their positions in the plan, however records were made or merged. Records of earlier
        versions have no position; they keep the order of the file. Recipes that are unknown here are left out. So are
        those that take too long: nobody would have run them, and they could delay the whole group.
        """
        found: dict[Recipe, None] = {}
        for record in _order_networks([each for each in self.submission.records if each.device == device]):
            try:
                recipe = parse_recipe(record.recipe, self.setting.known.ingredients)
            except InvalidInput:
                continue
            alike = (recipe.model, recipe.data_source, recipe.code) == (like.model, like.data_source, like.code)
            if alike and self._work(recipe, data) <= MAX_TRAINING_WORK:
                found[recipe] = None
        return tuple(found)

    def _work(self, recipe: Recipe, data: Data) -> float:
        """Parameters x examples x epochs of a training at most."""
        return self._size(recipe, data) * float(recipe.train_size or len(data.train_inputs)) * recipe.max_epochs

    def _size(self, recipe: Recipe, data: Data) -> int:
        """The number of parameters of the recipe's network."""
        form = (recipe.model, recipe.data_source)
        if form not in self.sizes:
            self.sizes[form] = _count_parameters(recipe, data)
        return self.sizes[form]


def _population_key(cell: Recomputable) -> tuple[Model, DataSource, str]:
    return cell.recipe.model, cell.recipe.data_source, cell.record.device


def _order_networks(records: Sequence[Record]) -> list[Record]:
    """One record of each network, by position; the earliest where records have different positions."""
    first: dict[str, Record] = {}
    for record in sorted(records, key=lambda each: each.time):
        first.setdefault(hash_network(record), record)
    networks = [first[place] for place in dict.fromkeys(map(hash_network, records))]
    return sorted(networks, key=network_position)


def _count_parameters(recipe: Recipe, data: Data) -> int:
    """The number of parameters, without allocating them. Raises NotReproducible if the network cannot be built."""
    try:
        with torch.device("meta"):
            return sum(value.numel() for value in recipe.model.build(data.shape, data.classes).parameters())
    except Exception as error:  # whatever a model raises
        raise NotReproducible(f"its network cannot be built here: {shorten(str(error))}") from None
