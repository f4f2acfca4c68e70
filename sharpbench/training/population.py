"""Population: the networks of a cohort, trained group by group into the zoo; knows no terminal."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from sharpbench.datasets.dataset import Data
from sharpbench.files import content_hash
from sharpbench.models.model import Model
from sharpbench.training.examples import initial_module
from sharpbench.training.network import TrainedNetwork, TrainingResult, load_network, training_result
from sharpbench.training.recipe import Recipe, network_key
from sharpbench.training.state import Epoch, TrainingState, pack_state, unpack_state
from sharpbench.training.trainer import StackedTrainer, group_recipes, group_size
from sharpbench.training.zoo import FORMAT, Origin, Zoo

CHECKPOINT_FOLDER = "checkpoints"
CHECKPOINT_INTERVAL_SECONDS = 30.0
"""Seconds between checkpoints; they are kept at the end of an epoch."""
STACKING_TRIAL_EXAMPLES = 4
"""Examples on which it is tried out whether networks can be trained together."""


@dataclass(frozen=True, slots=True)
class TrainingEpoch:
    """Progress: an epoch of a network that is being trained."""

    recipe: Recipe
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class TrainedRecipe:
    """A network that stands in the zoo. cached: it did before."""

    recipe: Recipe
    truth: TrainingResult
    cached: bool


class Population:
    """The networks of recipes on one data set; each is trained, with its group, when it is first asked for."""

    def __init__(self, recipes: Sequence[Recipe], data: Data, data_sha256: str, *, cache: Path, device: str) -> None:
        self.recipes, self.data, self.data_sha256 = tuple(recipes), data, data_sha256
        self.cache, self.device = cache, device
        self._lost: dict[Recipe, Exception] = {}

    @cached_property
    def groups(self) -> tuple[tuple[Recipe, ...], ...]:
        """The recipes in the groups that train together on this kind of device; their order alone decides."""
        sizes: dict[Model, int] = {}
        for recipe in self.recipes:
            if recipe.model not in sizes:
                module = initial_module(recipe, self.data.shape, self.data.classes)
                sizes[recipe.model] = group_size(
                    module, self.data.train_inputs[:STACKING_TRIAL_EXAMPLES], device=self.device
                )
        return group_recipes(self.recipes, lambda recipe: sizes[recipe.model])

    def lose(self, group: Sequence[Recipe], error: Exception) -> None:
        """Give a group up: to ask for one of its networks raises `error`."""
        self._lost |= dict.fromkeys(group, error)

    def stored(self, recipe: Recipe) -> TrainingResult | None:
        """The truth of the network, where it stands in the zoo."""
        entry = Zoo(self.cache).load(network_key(recipe, self.data_sha256, self.device))
        return None if entry is None else TrainingResult(**entry[1])

    def member(self, recipe: Recipe) -> Generator[TrainingEpoch, None, TrainedNetwork]:
        """The network of one recipe, returned; before that the epochs of its group, where it must be trained."""
        zoo = Zoo(self.cache)
        found = load_network(recipe, self.data, self.data_sha256, zoo=zoo, device=self.device)
        if found is None:
            yield from self._train(next(group for group in self.groups if recipe in group))
            found = load_network(recipe, self.data, self.data_sha256, zoo=zoo, device=self.device)
        if found is None:
            raise RuntimeError(f"no network came of {recipe.title}")
        return found

    def truth(self, recipe: Recipe) -> Generator[TrainingEpoch, None, TrainingResult]:
        """What became of the network, which stands in the zoo afterwards; before that as `load_network`."""
        found = self.stored(recipe)
        if found is None:
            yield from self._train(next(group for group in self.groups if recipe in group))
            found = self.stored(recipe)
        if found is None:
            raise RuntimeError(f"no network came of {recipe.title}")
        return found

    def network(self, recipe: Recipe) -> TrainedNetwork:
        """The same without what comes before."""
        steps = self.member(recipe)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: TrainedNetwork = end.value
                return found

    def _train(self, group: Sequence[Recipe]) -> Iterator[TrainingEpoch]:
        if group[0] in self._lost:
            raise self._lost[group[0]]
        try:
            for event in train_group(group, self.data, self.data_sha256, cache=self.cache, device=self.device):
                if isinstance(event, TrainingEpoch):
                    yield event
        except Exception as error:  # whatever a network raises: it would raise it again for the next of its group
            self.lose(group, error)
            raise


def train_group(
    group: Sequence[Recipe],
    data: Data,
    data_sha256: str,
    *,
    cache: Path,
    device: str,
    every: float = CHECKPOINT_INTERVAL_SECONDS,
) -> Iterator[TrainingEpoch | TrainedRecipe]:
    """Train what the zoo in `cache` does not hold of a group; progress, and every network at the end.

    On a CPU networks that train together are small ones, which more than one thread makes slower, so they have one.
    Every so many seconds the stage is kept, and when the training is interrupted; given the same group again it
    goes on from there, to the same networks bit by bit.
    """
    zoo = Zoo(cache)
    keys = {recipe: network_key(recipe, data_sha256, device) for recipe in group}
    stored = {
        recipe: TrainingResult(**entry[1]) for recipe, key in keys.items() if (entry := zoo.load(key)) is not None
    }
    missing = [recipe for recipe in group if recipe not in stored]
    if missing:
        checkpoint = _Checkpoint(Zoo(cache, shelf=CHECKPOINT_FOLDER), keys)
        with _limit_threads(1 if device == "cpu" and len(group) > 1 else torch.get_num_threads()):
            trained, stage = yield from _train_epochs(missing, data, checkpoint, device, every)
        for index, network in stage.finished.items():
            recipe = trained.recipes[index]
            if recipe not in missing:  # it was there: what is stored stays
                continue
            truth = training_result(trained, index, network, data)
            origin = Origin(recipe.row(), data_sha256, device)
            zoo.save(keys[recipe], trained.state(network.weights), truth.row(), origin=origin)
            yield TrainedRecipe(recipe, truth, cached=False)
        checkpoint.remove()
    for recipe, truth in stored.items():
        yield TrainedRecipe(recipe, truth, cached=True)


def _train_epochs(
    missing: Sequence[Recipe], data: Data, checkpoint: _Checkpoint, device: str, every: float
) -> Generator[TrainingEpoch, None, tuple[StackedTrainer, TrainingState]]:
    """Train to the end, from a checkpoint where there is one that holds all that is missing."""
    recipes, stage = checkpoint.load(missing, device) or (missing, None)
    group = StackedTrainer(recipes, data, device=device)
    stage = stage or group.begin()
    kept = time.monotonic()
    try:
        while stage.active:
            stage = group.advance(stage)
            yield from (TrainingEpoch(recipes[index], epoch) for index, epoch in stage.epochs.items())
            if stage.active and time.monotonic() - kept >= every:
                checkpoint.save(recipes, stage)
                kept = time.monotonic()
    except (KeyboardInterrupt, GeneratorExit):
        checkpoint.save(recipes, stage)
        raise
    if len(recipes) > 1:  # several entries of the zoo do not appear at once
        checkpoint.save(recipes, stage)
    return group, stage


@contextmanager
def _limit_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Checkpoint:
    """Where the training of one group is kept: under the hash of its networks, whichever of them are in training."""

    def __init__(self, shelf: Zoo, keys: Mapping[Recipe, str]) -> None:
        self.shelf, self.keys = shelf, keys
        self.key = content_hash({"group": list(keys.values()), "format": FORMAT})

    def load(self, missing: Sequence[Recipe], device: str) -> tuple[list[Recipe], TrainingState] | None:
        """The recipes in training and where it stands; None without a checkpoint that holds all that are missing."""
        entry = self.shelf.load(self.key)
        if entry is None:
            return None
        tensors, row = entry
        recipes = [recipe for recipe, key in self.keys.items() if key in row["networks"]]
        if not set(missing) <= set(recipes):
            return None
        return recipes, unpack_state(tensors, row["stage"], device=device)

    def save(self, recipes: Sequence[Recipe], stage: TrainingState) -> None:
        """Replaces the checkpoint, in one rename."""
        tensors, row = pack_state(stage)
        self.shelf.save(self.key, tensors, {"networks": [self.keys[recipe] for recipe in recipes], "stage": row})

    def remove(self) -> None:
        """Removes it."""
        self.shelf.remove(self.key)
