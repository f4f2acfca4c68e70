"""Augmentation: the inputs of a batch, changed at random in a way that keeps their classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sharpbench.training.examples import generator_for
from sharpbench.training.recipe import Recipe
from sharpbench.training.signals import (
    NOISE_DEVIATION,
    SCALE_RANGE,
    SHEAR_RANGE,
    SIGNAL_DIMENSIONS,
    scale_signals,
    shear_signals,
)

CROP_SHARE = 1 / 8
"""The padding on each side before a crop, as a share of the edge: 4 of 32 pixels, as in He et al. 2016."""
MIRROR_PROBABILITY = 0.5


class Augmentation:
    """The random changes of one epoch for networks that train together.

    Each network draws from the hash of its recipe and the number of the epoch, so a resumed training and networks that
    train one by one see the same changes.
    """

    def __init__(self, recipes: Sequence[Recipe], epoch: int) -> None:
        """Args: the recipes of the networks, all or none of them augmented; the number of the epoch."""
        self._recipes = tuple(recipes)
        self._generators = [generator_for(recipe, f"augmentation {epoch}") for recipe in recipes if recipe.augmentation]

    def augment(self, inputs: Tensor) -> Tensor:
        """The changed inputs of the same shape: signals [m, B, channels, length] or images [m, B, channels, H, W]."""
        if not self._generators:
            return inputs
        change = _change_signals if inputs[0, 0].ndim == SIGNAL_DIMENSIONS else _change_images
        each = zip(inputs, self._recipes, self._generators, strict=True)
        return torch.stack([change(batch, recipe, generator) for batch, recipe, generator in each])


def _change_signals(signals: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Signals [B, channels, length] with scale, shear and noise drawn for each, as MNIST-1D's generator draws them.

    With strength a and u, v uniform from -1/2 to 1/2: x (1 + 0.4 a u) - 4.85 a v line + 0.13 a noise, where the line
    rises from -1/2 to 1/2. At a = 1 these are the ranges of the generator.
    """
    strength = recipe.augmentation
    scale, shear = torch.rand(2, len(signals), 1, 1, generator=generator).to(signals) - 0.5
    noise = torch.randn(signals.shape, generator=generator).to(signals)
    scaled = scale_signals(signals, SCALE_RANGE * strength * scale)
    return shear_signals(scaled, SHEAR_RANGE * strength * shear) + NOISE_DEVIATION * strength * noise


def _change_images(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Images [B, channels, H, W], each cropped at random after padding with 0, and some mirrored left to right.

    With strength a the padding on each side is a/8 of the edge, rounded, and a share a/2 of the images is mirrored if
    the classes of the data set allow it. At a = 1 and 32 pixels this is what He et al. 2016, section 4.2, do.
    """
    batch, _, height, width = images.shape
    down, right, mirrored = torch.rand(3, batch, generator=generator)
    rows, columns = (round(recipe.augmentation * CROP_SHARE * edge) for edge in (height, width))
    padded = F.pad(images, (columns, columns, rows, rows))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [B, channels, 2 rows + 1, 2 columns + 1, H, W]
    top, left = ((draws * (2 * pad + 1)).long().to(images.device) for draws, pad in ((down, rows), (right, columns)))
    cropped = windows[torch.arange(batch, device=images.device), :, top, left]
    if not recipe.dataset.mirror_keeps_class:
        return cropped
    chosen = (mirrored < MIRROR_PROBABILITY * recipe.augmentation).to(images.device)
    return torch.where(chosen[:, None, None, None], cropped.flip(-1), cropped)
