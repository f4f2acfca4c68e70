"""Trained: the network of one recipe, from the zoo or by training, as a module and as subjects."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Data
from sharpbench.files import cache_folder, data_folder
from sharpbench.replays.study import Place
from sharpbench.training.examples import initial_module, training_examples
from sharpbench.training.population import Population
from sharpbench.training.recipe import Recipe


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained network with its weights in `module`, in eval mode, float32 on the CPU."""

    recipe: Recipe
    module: nn.Module
    data: Data

    def subject(self, examples: int, *, dtype: torch.dtype, device: str) -> Subject:
        """The subject on the first training examples, labels without noise; more than it was trained on will do.

        Raises InvalidInput where the data set holds fewer.
        """
        inputs, targets = training_examples(replace(self.recipe, train_size=examples, label_noise=0.0), self.data)
        subject = Subject.from_module(self.module, inputs, targets, name=self.recipe.model.name)
        return subject.to(dtype=dtype, device=device)


def trained(recipe: Recipe, place: Place) -> Trained:
    """The recipe's network; it is kept in the zoo, like those of runs."""
    data = recipe.dataset.load(data_folder(place.data_dir))
    cache = cache_folder(place.cache_dir)
    population = Population((recipe,), data, data.sha256(), cache=cache, device=place.device)
    module = initial_module(recipe, data.shape, data.classes)
    module.load_state_dict(population.network(recipe).weights)
    return Trained(recipe, module.eval(), data)
