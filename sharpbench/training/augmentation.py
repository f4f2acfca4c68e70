"""Augmentation: the signals of a batch, changed at random as the generator of MNIST-1D changes its templates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sharpbench.training.examples import generator_for
from sharpbench.training.recipe import Recipe
from sharpbench.training.signals import NOISE_DEVIATION, SCALE_RANGE, SHEAR_RANGE, scale_signals, shear_signals


class Augmentation:
    """The random changes of one epoch for networks that train together.

    Each network draws from the hash of its recipe and the number of the epoch, so a resumed training and networks that
    train one by one see the same changes.
    """

    def __init__(self, recipes: Sequence[Recipe], epoch: int) -> None:
        """Args: the recipes of the networks, all or none of them augmented; the number of the epoch."""
        self._strengths = [recipe.augmentation for recipe in recipes]
        self._generators = [generator_for(recipe, f"augmentation {epoch}") for recipe in recipes if recipe.augmentation]

    def augment(self, inputs: Tensor) -> Tensor:
        """Inputs [m, B, channels, length] with scale, shear and noise drawn for each signal.

        With strength a and u, v uniform from -1/2 to 1/2: x (1 + 0.4 a u) - 4.85 a v line + 0.13 a noise, where the
        line rises from -1/2 to 1/2. At a = 1 these are the ranges of the generator.
        """
        if not self._generators:
            return inputs
        _, batch, channels, length = inputs.shape
        changed = []
        for signals, strength, generator in zip(inputs, self._strengths, self._generators, strict=True):
            scale, shear = torch.rand(2, batch, 1, 1, generator=generator).to(inputs) - 0.5
            noise = torch.randn(batch, channels, length, generator=generator).to(inputs)
            scaled = scale_signals(signals, SCALE_RANGE * strength * scale)
            changed.append(shear_signals(scaled, SHEAR_RANGE * strength * shear) + NOISE_DEVIATION * strength * noise)
        return torch.stack(changed)
