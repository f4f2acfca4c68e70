"""Whether the recipes of a plan can be trained on their data; found before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sharpbench.core.spec import format_spec
from sharpbench.datasets.dataset import Data
from sharpbench.errors import InvalidInput, shorten
from sharpbench.models import MODELS
from sharpbench.models.model import Model
from sharpbench.training.recipe import Recipe
from sharpbench.training.signals import IMAGE_DIMENSIONS, SIGNAL_DIMENSIONS


def check_recipes(recipes: Sequence[Recipe], data: Data) -> None:
    """Raise InvalidInput where a recipe cannot be trained on the data.

    That is where there are too few training examples or no test examples; where the network cannot be built, or takes
    other numbers than the data hold; where inputs that are neither signals nor images would be augmented; and where its
    batch norm would be given a batch of one example.
    """
    for recipe in recipes:
        available = recipe.train_size or len(data.train_inputs)
        if available > len(data.train_inputs):
            raise InvalidInput(
                f"train_size={available} exceeds the {len(data.train_inputs)} training examples "
                f"of '{format_spec(recipe.dataset)}'; choose fewer"
            )
        can_change = data.train_inputs.is_floating_point() and len(data.shape) in (SIGNAL_DIMENSIONS, IMAGE_DIMENSIONS)
        if recipe.augmentation and not can_change:
            raise InvalidInput(
                f"augmentation={recipe.augmentation:g} changes signals [channels, length] and images [channels, "
                f"height, width] of floats, and '{format_spec(recipe.dataset)}' has inputs of shape {list(data.shape)} "
                f"and type {str(data.train_inputs.dtype).removeprefix('torch.')}; leave it at 0"
            )
    if recipes and not len(data.test_inputs):
        raise InvalidInput(
            f"'{format_spec(recipes[0].dataset)}' has no test examples, from which the generalization gap of a trained "
            "network is found; add them (a folder 'test', or arrays test_inputs and test_targets)"
        )
    for model in dict.fromkeys(recipe.model for recipe in recipes):
        if not data.train_inputs.is_floating_point() and type(model) in MODELS:
            raise InvalidInput(
                f"model '{format_spec(model)}' takes floats, '{format_spec(recipes[0].dataset)}' holds numbers of "
                "tokens; train a network with an embedding, a class in MODELS of a --plugin file"
            )
        module = _build_module(model, data)
        if any(isinstance(part, _BatchNorm) for part in module.modules()):
            _check_batches(module, [recipe for recipe in recipes if recipe.model == model], data)


def check_examples(recipes: Sequence[Recipe], data: Data, examples: int | None) -> None:
    """Raise InvalidInput where networks are to be measured on more examples than they are trained on."""
    for recipe in recipes:
        available = recipe.train_size or len(data.train_inputs)
        if examples is not None and examples > available:
            raise InvalidInput(
                f"examples={examples} exceeds the {available} that each network is trained on; choose fewer"
            )


def _build_module(model: Model, data: Data) -> nn.Module:
    """The model's network at random weights."""
    try:
        with torch.random.fork_rng(devices=[]):
            return model.build(data.shape, data.classes)
    except InvalidInput:
        raise
    except Exception as error:  # whatever a plugin's model raises
        raise InvalidInput(
            f"model '{shorten(format_spec(model))}' cannot be built for inputs of shape {list(data.shape)}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _check_batches(module: nn.Module, recipes: Sequence[Recipe], data: Data) -> None:
    """Raise InvalidInput where a batch, or part of one, is too small for the network in training mode."""
    sizes = {size: recipe for recipe in reversed(recipes) for size in _part_sizes(recipe, data)}
    for size, recipe in sizes.items():
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                module.train()(data.train_inputs[:size])
        except ValueError as error:
            examples = recipe.train_size or len(data.train_inputs)
            raise InvalidInput(
                f"'{format_spec(recipe.model)}' cannot be trained on {examples} examples by batch_size="
                f"{recipe.batch_size} and '{format_spec(recipe.optimizer)}': a part of {size} is too small for its "
                f"batch norm ({shorten(str(error))}); choose another train_size or batch_size"
            ) from error


def _part_sizes(recipe: Recipe, data: Data) -> Iterator[int]:
    """The fewest examples of which a gradient is taken at once, in a full batch and in the last one of an epoch."""
    examples = recipe.train_size or len(data.train_inputs)
    for batch in (min(recipe.batch_size, examples), examples % recipe.batch_size):
        if batch and (size := recipe.optimizer.smallest_part(batch)) == 1:
            yield size
