"""Group: networks of one architecture that train together, epoch by epoch, none of which sees another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sharpbench.datasets.dataset import Data
from sharpbench.training.examples import (
    evaluate_module,
    generator_for,
    initial_module,
    seed_for,
    training_examples,
    training_targets,
)
from sharpbench.training.loss import BatchGradient, can_stack, stack_modules
from sharpbench.training.optimizers import Step, stack_constants
from sharpbench.training.recipe import Recipe
from sharpbench.training.state import Epoch, Finished, TrainingState

if TYPE_CHECKING:
    from collections.abc import Iterator


# Which networks train together: groups that the cohort alone fixes, and the rule that says where it pays.

MAX_GROUP_NETWORKS = {"cpu": 16, "cuda": 128}
"""The most networks of a group. On a CPU few, so that several processes find work in one cohort."""
MAX_STACKED_PARAMETERS = 60_000
"""Parameters up to which perceptrons train faster together on a CPU; benchmarks/training.py measures it."""


def group_size(module: nn.Module, inputs: Tensor, *, device: str) -> int:
    """How many networks of this structure train together at most; 1 is one by one. `inputs`: a few examples.

    On CUDA all that can: a step of one small network hardly occupies it. On a CPU perceptrons with few parameters,
    where calls cost more than arithmetic; convolutions of several networks are grouped ones there, and slower.
    """
    weights = [value for value in module.parameters() if value.requires_grad]
    convolutional = any(value.ndim > 2 for value in weights)
    if device == "cpu" and (convolutional or sum(value.numel() for value in weights) > MAX_STACKED_PARAMETERS):
        return 1
    return MAX_GROUP_NETWORKS[device] if can_stack(module, inputs) else 1


def group_recipes(recipes: Sequence[Recipe], size: Callable[[Recipe], int]) -> tuple[tuple[Recipe, ...], ...]:
    """The recipes in groups that train together, each recipe once; the order of the cohort alone decides.

    Those of a group differ in what leaves shapes and code equal: seed, label noise, rate, decay, weight decay, the
    float fields of the optimiser, targets and budget. `size`: of the groups of a recipe's kind at most; they are of
    equal size, or one smaller. Groups go by their first recipe.
    """
    kinds: dict[Hashable, list[Recipe]] = {}
    for recipe in dict.fromkeys(recipes):
        kinds.setdefault(_stacking_key(recipe), []).append(recipe)
    parts = [part for alike in kinds.values() for part in _split_evenly(alike, size(alike[0]))]
    place = {recipe: position for position, recipe in enumerate(dict.fromkeys(recipes))}
    return tuple(sorted(parts, key=lambda part: place[part[0]]))


def _stacking_key(recipe: Recipe) -> Hashable:
    return recipe.model, recipe.dataset, recipe.train_size, recipe.batch_size, recipe.optimizer.choices()


def _split_evenly(recipes: Sequence[Recipe], size: int) -> list[tuple[Recipe, ...]]:
    """As few parts as `size` allows, in order, of equal length or one less."""
    count = -(-len(recipes) // size)
    bounds = [part * len(recipes) // count for part in range(count + 1)]
    return [tuple(recipes[start:stop]) for start, stop in pairwise(bounds)]


class StackedTrainer:
    """The networks of `recipes`, which must be of one kind (see `group_recipes`), with their examples on a device.

    A group holds nothing that changes: `advance` makes a stage of a stage. Each network has its own initialisation,
    labels, order of examples, rate and constants; inputs are shared.
    """

    def __init__(
        self, recipes: Sequence[Recipe], data: Data, *, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.recipes = tuple(recipes)
        self.shape, self.classes = data.shape, data.classes
        self.device, self.dtype = device, dtype
        inputs, _ = training_examples(self.recipes[0], data)
        self.inputs = inputs.to(device, dtype)
        self.targets = torch.stack([training_targets(recipe, data) for recipe in self.recipes]).to(device)
        self.module = self._initial(0).train()

    def begin(self) -> TrainingState:
        """The stage before the first epoch."""
        params, buffers = stack_modules([self._initial(index) for index in range(len(self.recipes))])
        orders = [generator_for(recipe, "order").get_state() for recipe in self.recipes]
        return TrainingState(
            epoch=0,
            steps=0,
            active=tuple(range(len(self.recipes))),
            params=params,
            buffers=buffers,
            state=self.recipes[0].optimizer.initial(params),
            orders=torch.stack(orders),
            seconds=(0.0,) * len(self.recipes),
        )

    def advance(self, stage: TrainingState) -> TrainingState:
        """The stage after one more epoch of the active networks.

        A network leaves with the epoch in which it fits, diverges or comes to the end of its budget.
        """
        start = time.perf_counter()
        stage, totals = self._epoch(stage)
        ends = {index: self._end(stage, place, total) for place, (index, total) in enumerate(totals.items())}
        share = (time.perf_counter() - start) / len(ends)
        stage = replace(stage, epochs=ends, seconds=tuple(seconds + share for seconds in stage.seconds))
        return self._left(stage)

    def loaded(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """The module of the group with these parameters and buffers, by reference to one module for all."""
        with torch.no_grad():
            for name, value in (*self.module.named_parameters(), *self.module.named_buffers()):
                value.copy_(weights[name])
        return self.module

    def state(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict of the module with these parameters and buffers, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.loaded(weights).state_dict().items()}

    def _initial(self, index: int) -> nn.Module:
        return initial_module(self.recipes[index], self.shape, self.classes).to(self.device, self.dtype)

    def _epoch(self, stage: TrainingState) -> tuple[TrainingState, dict[int, float]]:
        """The stage with its networks trained for one epoch, and the mean loss of each over the epoch."""
        recipes = [self.recipes[index] for index in stage.active]
        pace = _StepConstants(recipes, next(iter(stage.params.values())))
        batches, orders = self._batches(stage)
        targets = self.targets[list(stage.active)]
        params, state, steps = stage.params, stage.state, stage.steps
        buffers = {name: value.clone() for name, value in stage.buffers.items()}
        total = torch.zeros(len(recipes), dtype=torch.float64, device=self.device)
        with _seed_global_generator(recipes, stage.epoch + 1, self.device):
            for batch in batches:
                gradient = BatchGradient(self.module, buffers, self._inputs(batch), targets.gather(1, batch))
                params, state = recipes[0].optimizer.step(params, state, gradient, pace.at(steps))
                total += gradient.total
                steps += 1
        means = (total / self.inputs.shape[0]).tolist()
        trained = replace(stage, epoch=stage.epoch + 1, steps=steps, orders=orders).holding(params, buffers, state)
        return trained, dict(zip(stage.active, means, strict=True))

    def _inputs(self, batch: Tensor) -> Tensor:
        """The inputs of a batch [m, B], row by row: several times as fast as indexing."""
        return self.inputs.index_select(0, batch.flatten()).view(*batch.shape, *self.shape)

    def _batches(self, stage: TrainingState) -> tuple[Sequence[Tensor], Tensor]:
        """The batches of an epoch, each [m, B], and the states of the generators after it."""
        drawn, after = [], []
        for state in stage.orders:
            generator = torch.Generator()
            generator.set_state(state.clone())  # a tensor of its own: torch reads from the start of the storage
            drawn.append(torch.randperm(len(self.inputs), generator=generator))
            after.append(generator.get_state())
        order = torch.stack(drawn).to(self.device)
        return order.split(self.recipes[0].batch_size, dim=1), torch.stack(after)

    def _end(self, stage: TrainingState, place: int, mean: float) -> Epoch:
        """What the epoch came to for the network at `place` of the stage."""
        recipe = self.recipes[stage.active[place]]
        finite = math.isfinite(mean) and all(bool(value[place].isfinite().all()) for value in stage.params.values())
        fitted = finite and mean <= recipe.target_loss and self._fits(stage, place, recipe)
        return Epoch(number=stage.epoch, steps=stage.steps, loss=mean, fitted=fitted, diverged=not finite)

    def _fits(self, stage: TrainingState, place: int, recipe: Recipe) -> bool:
        module = self.loaded(stage.weights(place))
        loss, accuracy = evaluate_module(module, self.inputs, self.targets[stage.active[place]])
        return loss <= recipe.target_loss and accuracy >= recipe.target_accuracy

    def _left(self, stage: TrainingState) -> TrainingState:
        """The stage without the networks that are done, which stand among the finished ones."""
        done = {
            place: index
            for place, index in enumerate(stage.active)
            if (end := stage.epochs[index]).fitted or end.diverged or end.number >= self.recipes[index].max_epochs
        }
        if not done:
            return stage
        finished = {
            index: Finished(weights=stage.weights(place), epoch=stage.epochs[index], seconds=stage.seconds[place])
            for place, index in done.items()
        }
        kept = [place for place in range(len(stage.active)) if place not in done]
        return replace(stage.at(kept), finished={**stage.finished, **finished})


class _StepConstants:
    """Rates and constants of a stack at each step."""

    def __init__(self, recipes: Sequence[Recipe], like: Tensor) -> None:
        self.like = like
        self.first = torch.tensor([recipe.learning_rate for recipe in recipes], dtype=torch.float64)
        self.decay = torch.tensor([recipe.decay for recipe in recipes], dtype=torch.float64)
        self.weight_decay = torch.tensor([recipe.weight_decay for recipe in recipes]).to(like)
        self.constants = stack_constants([recipe.optimizer for recipe in recipes], like)

    def at(self, number: int) -> Step:
        """The step `number`, with rate / (decay number + 1) (Ibayashi et al. 2021)."""
        rate = (self.first / (self.decay * number + 1)).to(self.like)
        return Step(number=number, rate=rate, weight_decay=self.weight_decay, constants=self.constants)


@contextmanager
def _seed_global_generator(recipes: Sequence[Recipe], epoch: int, device: str) -> Iterator[None]:
    """What a network draws in its forward pass (dropout) is drawn from its recipe and the number of the epoch.

    Networks that draw train one by one.
    """
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(seed_for(recipes[0], f"epoch {epoch}"))
        yield
