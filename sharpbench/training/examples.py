"""The examples, labels, seeds and initial network that a recipe determines; and evaluation of a module."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench.core.spec import format_spec
from sharpbench.datasets.dataset import Data, in_colour, refusing_load_errors
from sharpbench.errors import InvalidInput, shorten, truncate
from sharpbench.training.recipe import DataSource, Recipe

MAX_WORDS = 160
"""Characters of a description of inputs that a message quotes."""


def load_data(recipe: Recipe, folder: Path | None) -> Data:
    """The data set of the recipe, with its images prepared as the recipe states.

    Args:
        recipe: `Recipe.identify` was called, or its network takes the inputs as they are.
        folder: as for `Dataset.load`.

    Raises:
        InvalidInput: in one line, whatever `Dataset.load` raises, and where the installed libraries prepare images
            otherwise.
    """
    with refusing_load_errors(recipe.dataset):
        data = _load(recipe, folder)
    if not isinstance(data, Data):  # a plugin's mistake
        kind = shorten(type(data).__name__)
        raise InvalidInput(f"dataset '{recipe.dataset.name}' loads as {kind}, not as Data; return Data from its `load`")
    return data


def _load(recipe: Recipe, folder: Path | None) -> Data:
    if recipe.inputs is None:
        return recipe.dataset.load(folder)
    transform, here = recipe.model.transform(), recipe.model.describe_transform()
    if transform is None or here != recipe.inputs:
        raise InvalidInput(
            f"'{format_spec(recipe.model)}' was trained on images prepared as '{truncate(recipe.inputs, MAX_WORDS)}', "
            f"which here are prepared as '{truncate(str(here), MAX_WORDS)}'; install the versions of its record"
        )
    return recipe.dataset.load_transformed(folder, in_colour(transform))


class LoadedData:
    """The data of recipes, each source of data loaded once."""

    def __init__(self, folder: Path | None) -> None:
        """Args: folder: as for `load_data`."""
        self._folder = folder
        self._loaded: dict[DataSource, Data] = {}

    def load(self, recipe: Recipe) -> Data:
        """The data of the recipe, as `load_data` gives them."""
        if recipe.data_source not in self._loaded:
            self._loaded[recipe.data_source] = load_data(recipe, self._folder)
        return self._loaded[recipe.data_source]


def training_examples(recipe: Recipe, data: Data) -> tuple[Tensor, Tensor]:
    """The training inputs [n, ...] and targets [n] of the recipe, label noise included.

    The examples are the first n of one fixed permutation of the training set. It is the same for every recipe, so
    networks of one cohort differ in their labels and not in their inputs.

    Raises:
        InvalidInput: where the data set has fewer than `train_size` training examples.
    """
    return data.train_inputs[_choose_examples(recipe, data)], training_targets(recipe, data)


def training_targets(recipe: Recipe, data: Data) -> Tensor:
    """The targets [n] of `training_examples`."""
    targets = data.train_targets[_choose_examples(recipe, data)]
    return permute_labels(targets, recipe.label_noise, generator=generator_for(recipe, "label noise"))


def _choose_examples(recipe: Recipe, data: Data) -> Tensor:
    """The indices of the recipe's training examples."""
    available = len(data.train_inputs)
    size = available if recipe.train_size is None else recipe.train_size
    if size > available:
        raise InvalidInput(
            f"train_size={size} exceeds the {available} training examples of '{recipe.dataset.name}'; choose fewer"
        )
    return torch.randperm(available, generator=torch.Generator().manual_seed(0))[:size]


def permute_labels(targets: Tensor, share: float, *, generator: torch.Generator) -> Tensor:
    """A copy of `targets` [n], with the labels of round(share * n) random examples permuted among these."""
    chosen = torch.randperm(len(targets), generator=generator)[: round(share * len(targets))]
    shuffled = chosen[torch.randperm(len(chosen), generator=generator)]
    noisy = targets.clone()
    noisy[chosen] = targets[shuffled]
    return noisy


def seed_for(recipe: Recipe, purpose: str) -> int:
    """A seed of 63 bits, from the hash of the recipe and the purpose."""
    digest = hashlib.sha256(f"{recipe.seed_key} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_for(recipe: Recipe, purpose: str) -> torch.Generator:
    """A generator seeded for the recipe and the purpose. It is on the CPU: draws are the same for every device."""
    return torch.Generator().manual_seed(seed_for(recipe, purpose))


def initial_module(recipe: Recipe, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The recipe's network before training. The state of torch's global generator is restored.

    Args:
        recipe: gives the model and the seed of the initialisation.
        shape: the shape of one input.
        classes: the number of logits.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(recipe, "initialisation"))
        return recipe.model.build(shape, classes)


def evaluate_module(
    module: nn.Module, inputs: Tensor, targets: Tensor, *, batch_size: int = 512
) -> tuple[float, float]:
    """The mean cross entropy (nats) and the accuracy of `module` in eval mode; its mode is restored."""
    training = module.training
    module.eval()
    loss = correct = 0.0
    with torch.no_grad():
        for images, labels in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
            logits = module(images)
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            correct += float((logits.argmax(1) == labels).sum())
    module.train(training)
    return loss / len(inputs), correct / len(inputs)
