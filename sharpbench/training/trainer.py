"""Networks of one architecture, trained together epoch by epoch; and which networks train together."""

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

from sharpbench.core.curve import extend_curve
from sharpbench.datasets.dataset import Data
from sharpbench.training.augmentation import Augmentation
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


MAX_GROUP_NETWORKS = {"cpu": 16, "cuda": 128}
"""Networks of one group, by kind of device. On a CPU it is small, so that several processes share one cohort."""
IMAGE_KERNEL_DIMENSIONS = 4
"""Dimensions of the weights of a convolution of images; that of signals has three."""
MAX_STACKED_PARAMETERS = 60_000
"""Parameters up to which networks train faster together than one by one on a CPU (see benchmarks/training.py)."""


def group_size(module: nn.Module, inputs: Tensor, *, device: str) -> int:
    """The largest number of networks of this structure that train together; 1 means one by one.

    On CUDA every network that can be stacked is, since one small network hardly occupies the device. On a CPU only
    networks with few parameters are, because there the calls cost more than the arithmetic. The convolutions of
    several networks become grouped convolutions, which are slower on a CPU for images, and faster for signals.

    Args:
        module: a network of the structure.
        inputs: a few examples [B, ...] on which stacking is tried.
        device: "cpu" or "cuda".
    """
    weights = [value for value in module.parameters() if value.requires_grad]
    of_images = any(value.ndim >= IMAGE_KERNEL_DIMENSIONS for value in weights)
    if device == "cpu" and (of_images or sum(value.numel() for value in weights) > MAX_STACKED_PARAMETERS):
        return 1
    return MAX_GROUP_NETWORKS[device] if can_stack(module, inputs) else 1


def group_recipes(recipes: Sequence[Recipe], size: Callable[[Recipe], int]) -> tuple[tuple[Recipe, ...], ...]:
    """The groups that train together, each recipe in one group. Only the order of `recipes` determines them.

    The recipes of a group have the same shapes and code, and all or none are augmented. They differ in seed, label
    noise, learning rate, decay, weight decay, the float fields of the optimiser, targets and budget.

    Args:
        recipes: the recipes of a cohort; repeated recipes count once.
        size: the largest group for networks like that of a recipe.

    Returns:
        Groups in the order of their first recipes. Sizes of groups of one kind differ by at most one.
    """
    kinds: dict[Hashable, list[Recipe]] = {}
    for recipe in dict.fromkeys(recipes):
        kinds.setdefault(_stacking_key(recipe), []).append(recipe)
    parts = [part for alike in kinds.values() for part in _split_evenly(alike, size(alike[0]))]
    positions = {recipe: position for position, recipe in enumerate(dict.fromkeys(recipes))}
    return tuple(sorted(parts, key=lambda part: positions[part[0]]))


def _stacking_key(recipe: Recipe) -> Hashable:
    """The fields of a recipe in which networks that train together agree."""
    augmented = recipe.augmentation > 0
    return recipe.model, recipe.dataset, recipe.train_size, recipe.batch_size, augmented, recipe.optimizer.choices()


def _split_evenly(recipes: Sequence[Recipe], size: int) -> list[tuple[Recipe, ...]]:
    """As few parts as `size` allows, in order; their lengths differ by at most one."""
    count = -(-len(recipes) // size)
    bounds = [part * len(recipes) // count for part in range(count + 1)]
    return [tuple(recipes[start:stop]) for start, stop in pairwise(bounds)]


class StackedTrainer:
    """Trains the networks of one group (see `group_recipes`), with their examples on one device.

    Each network has its own initialisation, labels, order of examples, learning rate and optimiser constants; the
    inputs are shared. A trainer has no state: `advance` returns a new `TrainingState`.
    """

    def __init__(
        self, recipes: Sequence[Recipe], data: Data, *, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.recipes = tuple(recipes)
        self.shape, self.classes = data.shape, data.classes
        self.device, self.dtype = device, dtype
        inputs, _ = training_examples(self.recipes[0], data)
        self.inputs = inputs.to(device, dtype if inputs.is_floating_point() else None)
        self.targets = torch.stack([training_targets(recipe, data) for recipe in self.recipes]).to(device)
        self.module = self._initial(0).train()

    def begin(self) -> TrainingState:
        """The state before the first epoch."""
        params, buffers = stack_modules([self._initial(index) for index in range(len(self.recipes))])
        orders = [generator_for(recipe, "order").get_state() for recipe in self.recipes]
        return TrainingState(
            epoch=0,
            steps=0,
            active=tuple(range(len(self.recipes))),
            params=params,
            buffers=buffers,
            optimizer_state=self.recipes[0].optimizer.initial(params),
            orders=torch.stack(orders),
            seconds=(0.0,) * len(self.recipes),
        )

    def advance(self, state: TrainingState) -> TrainingState:
        """The state after one more epoch of the active networks.

        A network is finished after the epoch in which it fits, diverges or reaches `max_epochs`.
        """
        start = time.perf_counter()
        state, losses = self._train_epoch(state)
        stacks = [value.isfinite().reshape(len(value), -1).all(1) for value in state.params.values()]
        finite = torch.stack(stacks).all(0).tolist()
        epochs = {
            index: self._judge(state, position, loss, finite=finite[position] and math.isfinite(loss))
            for position, (index, loss) in enumerate(losses.items())
        }
        curves = {index: extend_curve(state.curves.get(index, {}), state.epoch, loss) for index, loss in losses.items()}
        share = (time.perf_counter() - start) / len(epochs)
        seconds = tuple(before + share for before in state.seconds)
        state = replace(state, epochs=epochs, curves=curves, seconds=seconds)
        return self._retire_finished(state)

    def load(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """The trainer's only module, with these parameters and buffers copied into it."""
        with torch.no_grad():
            for name, value in (*self.module.named_parameters(), *self.module.named_buffers()):
                value.copy_(weights[name])
        return self.module

    def state_dict(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict of the network with these parameters and buffers, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self.load(weights).state_dict().items()}

    def _initial(self, index: int) -> nn.Module:
        return initial_module(self.recipes[index], self.shape, self.classes).to(self.device, self.dtype)

    def _train_epoch(self, state: TrainingState) -> tuple[TrainingState, dict[int, float]]:
        """The state with its networks trained for one epoch, and the mean loss of each over the epoch."""
        recipes = [self.recipes[index] for index in state.active]
        constants = _StepConstants(recipes, next(iter(state.params.values())))
        batches, orders = self._draw_batches(state)
        targets = self.targets[list(state.active)]
        augmentation = Augmentation(recipes, state.epoch + 1)
        params, memory, steps = state.params, state.optimizer_state, state.steps
        buffers = {name: value.clone() for name, value in state.buffers.items()}
        total = torch.zeros(len(recipes), dtype=torch.float64, device=self.device)
        with _seed_global_generator(recipes, state.epoch + 1, self.device):
            for batch in batches:
                inputs = augmentation.augment(self._gather_inputs(batch))
                gradient = BatchGradient(self.module, buffers, inputs, targets.gather(1, batch))
                params, memory = recipes[0].optimizer.step(params, memory, gradient, constants.at(steps))
                total += gradient.total
                steps += 1
        means = (total / self.inputs.shape[0]).tolist()
        trained = replace(state, epoch=state.epoch + 1, steps=steps, orders=orders)
        return trained.with_stacks(params, buffers, memory), dict(zip(state.active, means, strict=True))

    def _gather_inputs(self, batch: Tensor) -> Tensor:
        """The inputs [m, B, ...] of a batch of indices [m, B]. index_select is several times as fast as indexing."""
        return self.inputs.index_select(0, batch.flatten()).view(*batch.shape, *self.shape)

    def _draw_batches(self, state: TrainingState) -> tuple[Sequence[Tensor], Tensor]:
        """The batches of an epoch, each [m, B], and the states of the generators after it."""
        drawn, after = [], []
        for order in state.orders:
            generator = torch.Generator()
            generator.set_state(order.clone())  # torch reads from the start of the storage, so a view will not do
            drawn.append(torch.randperm(len(self.inputs), generator=generator))
            after.append(generator.get_state())
        indices = torch.stack(drawn).to(self.device)
        return indices.split(self.recipes[0].batch_size, dim=1), torch.stack(after)

    def _judge(self, state: TrainingState, position: int, loss: float, *, finite: bool) -> Epoch:
        """The outcome of the epoch for the network at `position` of the stacks, whose mean loss was `loss`."""
        recipe = self.recipes[state.active[position]]
        near = recipe.augmentation > 0 or loss <= recipe.target_loss  # changed examples have a higher loss
        fitted = finite and near and self._fits(state, position, recipe)
        return Epoch(number=state.epoch, steps=state.steps, loss=loss, fitted=fitted, diverged=not finite)

    def _fits(self, state: TrainingState, position: int, recipe: Recipe) -> bool:
        """Whether a full pass finds the recipe's targets reached."""
        module = self.load(state.weights(position))
        loss, accuracy = evaluate_module(module, self.inputs, self.targets[state.active[position]])
        return loss <= recipe.target_loss and accuracy >= recipe.target_accuracy

    def _retire_finished(self, state: TrainingState) -> TrainingState:
        """The state with the networks that are done moved from the stacks to `finished`."""
        done = {
            position: index
            for position, index in enumerate(state.active)
            if (last := state.epochs[index]).fitted or last.diverged or last.number >= self.recipes[index].max_epochs
        }
        if not done:
            return state
        finished = {
            index: Finished(
                weights=state.weights(position),
                epoch=state.epochs[index],
                seconds=state.seconds[position],
                curve=state.curves[index],
            )
            for position, index in done.items()
        }
        remaining = [position for position in range(len(state.active)) if position not in done]
        return replace(state.select(remaining), finished={**state.finished, **finished})


class _StepConstants:
    """The learning rates and optimiser constants of a stack of networks at each step."""

    def __init__(self, recipes: Sequence[Recipe], like: Tensor) -> None:
        self.like = like
        self.first = torch.tensor([recipe.learning_rate for recipe in recipes], dtype=torch.float64)
        self.decay = torch.tensor([recipe.decay for recipe in recipes], dtype=torch.float64)
        self.weight_decay = torch.tensor([recipe.weight_decay for recipe in recipes]).to(like)
        self.constants = stack_constants([recipe.optimizer for recipe in recipes], like)

    def at(self, number: int) -> Step:
        """Step `number`, from 0, with learning_rate / (decay number + 1) (Ibayashi et al. 2021)."""
        rate = (self.first / (self.decay * number + 1)).to(self.like)
        return Step(number=number, rate=rate, weight_decay=self.weight_decay, constants=self.constants)


@contextmanager
def _seed_global_generator(recipes: Sequence[Recipe], epoch: int, device: str) -> Iterator[None]:
    """Seed torch's global generator from the recipe and the epoch, for networks that draw random numbers (dropout).

    Only the first recipe counts, because networks that draw random numbers train one by one.
    """
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        # torch.manual_seed keeps the text of the whole stack for a GPU that may come later
        seed = torch.manual_seed if device == "cuda" else torch.default_generator.manual_seed
        seed(seed_for(recipes[0], f"epoch {epoch}"))
        yield
