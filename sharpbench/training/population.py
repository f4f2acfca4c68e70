"""The networks of a cohort, trained group by group and stored in the zoo."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from sharpbench.datasets.dataset import Data
from sharpbench.files import content_hash
from sharpbench.models.model import Model
from sharpbench.training.examples import initial_module
from sharpbench.training.network import (
    TrainedNetwork,
    TrainingResult,
    load_network,
    losses_agree,
    recompute_loss,
    training_result,
)
from sharpbench.training.recipe import Recipe, network_key
from sharpbench.training.state import Epoch, TrainingState, pack_state, unpack_state
from sharpbench.training.trainer import StackedTrainer, group_recipes, group_size
from sharpbench.training.zoo import FORMAT, Origin, Zoo

CHECKPOINT_FOLDER = "checkpoints"
CHECKPOINT_INTERVAL_SECONDS = 30.0
"""The least time between two checkpoints of one training; they are stored at the end of an epoch."""
STACKING_TRIAL_EXAMPLES = 4
"""Examples on which `group_size` tries whether networks can be stacked."""


@dataclass(frozen=True, slots=True)
class TrainingEpoch:
    """Progress: one epoch of a network in training."""

    recipe: Recipe
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class NetworkDiscarded:
    """Progress: a network was removed from the zoo, since its weights do not give its stored training loss.

    stored, found: the losses; None is one that is not finite, or weights that no longer fit the network.
    """

    recipe: Recipe
    stored: float | None
    found: float | None


TrainingProgress = TrainingEpoch | NetworkDiscarded


@dataclass(frozen=True, slots=True)
class TrainedRecipe:
    """A network in the zoo. cached: it was there before."""

    recipe: Recipe
    result: TrainingResult
    cached: bool


class Population:
    """The networks of some recipes on one data set. Each is trained, with its group, when it is first requested.

    Args:
        recipes: the recipes of a cohort.
        data: the data set.
        data_sha256: `data.sha256()`, which is part of the key of a network.
        cache: the folder that holds the zoo and the checkpoints.
        device: "cpu" or "cuda".
        checked: discard stored networks that do not give their stored training loss; False leaves the cache as it is.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        data: Data,
        data_sha256: str,
        *,
        cache: Path,
        device: str,
        checked: bool = True,
    ) -> None:
        self.recipes, self.data, self.data_sha256 = tuple(recipes), data, data_sha256
        self.cache, self.device = cache, device
        self._lost: dict[Recipe, Exception] = {}
        self._checked: set[Recipe] = set() if checked else set(self.recipes)

    @cached_property
    def groups(self) -> tuple[tuple[Recipe, ...], ...]:
        """The groups of recipes that train together on this kind of device, as `group_recipes` forms them."""
        sizes: dict[Model, int] = {}
        for recipe in self.recipes:
            if recipe.model not in sizes:
                module = initial_module(recipe, self.data.shape, self.data.classes)
                sizes[recipe.model] = group_size(
                    module, self.data.train_inputs[:STACKING_TRIAL_EXAMPLES], device=self.device
                )
        return group_recipes(self.recipes, lambda recipe: sizes[recipe.model])

    def give_up(self, group: Sequence[Recipe], error: Exception) -> None:
        """Do not train this group. A request for one of its networks raises `error`."""
        self._lost |= dict.fromkeys(group, error)

    @property
    def given_up(self) -> Set[Recipe]:
        """The networks of the groups that are not trained."""
        return self._lost.keys()

    def stored_result(self, recipe: Recipe) -> TrainingResult | None:
        """The training result of a network in the zoo, or None where it is not there."""
        entry = Zoo(self.cache).load(network_key(recipe, self.data_sha256, self.device))
        return None if entry is None else TrainingResult(**entry[1])

    def obtain_network(self, recipe: Recipe) -> Generator[TrainingProgress, None, TrainedNetwork]:
        """The network of one recipe as the generator's return value; yields the epochs if it must be trained.

        A stored network whose weights do not give its stored training loss is of other code, and is trained again.
        """
        found = yield from self._load_checked(recipe)
        if found is None:
            yield from self._train(next(group for group in self.groups if recipe in group))
            found = yield from self._load_checked(recipe)
        if found is None:
            raise RuntimeError(f"training left no network of {recipe.title} in the zoo that gives its training loss")
        return found

    def obtain_result(self, recipe: Recipe) -> Generator[TrainingProgress, None, TrainingResult]:
        """As `obtain_network`, but returns only the training result."""
        network = yield from self.obtain_network(recipe)
        return network.result

    def _load_checked(self, recipe: Recipe) -> Generator[NetworkDiscarded, None, TrainedNetwork | None]:
        """The network from the zoo, or None where it is not there or was discarded; each is checked once."""
        zoo = Zoo(self.cache)
        network = load_network(recipe, self.data, self.data_sha256, zoo=zoo, device=self.device)
        if network is None or recipe in self._checked:
            return network
        try:
            found = recompute_loss(network, self.data, self.device)
            sound = losses_agree(network.result.train_loss, found)
        except RuntimeError:  # weights of other shapes
            found, sound = None, False
        if sound:
            self._checked.add(recipe)
            return network
        zoo.remove(network_key(recipe, self.data_sha256, self.device))
        yield NetworkDiscarded(recipe, network.result.train_loss, found)
        return None

    def get_network(self, recipe: Recipe) -> TrainedNetwork:
        """The network of one recipe, trained if it must be."""
        steps = self.obtain_network(recipe)
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
        except Exception as error:  # from the network's code, which would raise it again for the next recipe
            self.give_up(group, error)
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
    """Train the networks of a group that the zoo does not hold, and yield progress, then every network.

    The training is checkpointed every `every` seconds and when it is interrupted. Called again with the same group,
    it resumes from the checkpoint and ends in the same networks bit by bit. Networks that train together on a CPU
    are small and slower on several threads, so they train on one.

    Args:
        group: one of `Population.groups`.
        data: the data set.
        data_sha256: `data.sha256()`.
        cache: the folder that holds the zoo and the checkpoints.
        device: "cpu" or "cuda".
        every: seconds between checkpoints.

    Raises:
        InvalidInput: where the cache cannot be written.
    """
    zoo = Zoo(cache)
    keys = {recipe: network_key(recipe, data_sha256, device) for recipe in group}
    stored = {
        recipe: TrainingResult(**entry[1]) for recipe, key in keys.items() if (entry := zoo.load(key)) is not None
    }
    missing = [recipe for recipe in group if recipe not in stored]
    if missing:
        zoo.check_writable()
        checkpoint = _Checkpoint(Zoo(cache, shelf=CHECKPOINT_FOLDER), keys)
        with _limit_threads(1 if device == "cpu" and len(group) > 1 else torch.get_num_threads()):
            trainer, state = yield from _train_epochs(missing, data, checkpoint, device, every)
        for index, network in state.finished.items():
            recipe = trainer.recipes[index]
            if recipe not in missing:  # it was in the zoo before, and its entry stays
                continue
            result = training_result(trainer, index, network, data)
            origin = Origin(recipe.row(), data_sha256, device)
            weights = trainer.state_dict(network.weights)
            zoo.save(keys[recipe], weights, result.row(), origin=origin, curve=network.curve)
            yield TrainedRecipe(recipe, result, cached=False)
        checkpoint.remove()
    for recipe, result in stored.items():
        yield TrainedRecipe(recipe, result, cached=True)


def _train_epochs(
    missing: Sequence[Recipe], data: Data, checkpoint: _Checkpoint, device: str, every: float
) -> Generator[TrainingEpoch, None, tuple[StackedTrainer, TrainingState]]:
    """Train to the end, starting from the checkpoint if it holds all missing networks."""
    recipes, state = checkpoint.load(missing, device) or (missing, None)
    trainer = StackedTrainer(recipes, data, device=device)
    state = state or trainer.begin()
    last_saved = time.monotonic()
    try:
        while state.active:
            state = trainer.advance(state)
            yield from (TrainingEpoch(recipes[index], epoch) for index, epoch in state.epochs.items())
            if state.active and time.monotonic() - last_saved >= every:
                checkpoint.save(recipes, state)
                last_saved = time.monotonic()
    except (KeyboardInterrupt, GeneratorExit):
        checkpoint.save(recipes, state)
        raise
    if len(recipes) > 1:  # several entries of the zoo do not appear at once
        checkpoint.save(recipes, state)
    return trainer, state


@contextmanager
def _limit_threads(count: int) -> Iterator[None]:
    """Run the block with `count` threads in torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Checkpoint:
    """The stored training of one group. Its key hashes all networks of the group, also those that are finished."""

    def __init__(self, shelf: Zoo, keys: Mapping[Recipe, str]) -> None:
        self.shelf, self.keys = shelf, keys
        self.key = content_hash({"group": list(keys.values()), "format": FORMAT})

    def load(self, missing: Sequence[Recipe], device: str) -> tuple[list[Recipe], TrainingState] | None:
        """The recipes in training and their state, or None without a checkpoint that holds all `missing` ones."""
        entry = self.shelf.load(self.key)
        if entry is None:
            return None
        tensors, row = entry
        recipes = [recipe for recipe, key in self.keys.items() if key in row["networks"]]
        if not set(missing) <= set(recipes):
            return None
        return recipes, unpack_state(tensors, row["stage"], device=device)

    def save(self, recipes: Sequence[Recipe], state: TrainingState) -> None:
        """Replace the checkpoint in one step."""
        tensors, row = pack_state(state)
        self.shelf.save(self.key, tensors, {"networks": [self.keys[recipe] for recipe in recipes], "stage": row})

    def remove(self) -> None:
        """Remove the checkpoint."""
        self.shelf.remove(self.key)
