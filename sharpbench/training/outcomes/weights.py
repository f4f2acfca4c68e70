"""What a network loses when its weights are rounded to few bits, or when the smallest of them are removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sharpbench.training.outcomes.outcome import JudgedNetwork, Outcome


@dataclass(frozen=True)
class Quantised(Outcome):
    """Test accuracy lost when each channel of each weight tensor is rounded to `bits` bits, without retraining."""

    version: ClassVar[int] = 2  # 2: one scale per channel, before that one per tensor

    bits: int

    @property
    def name(self) -> str:
        """See Outcome."""
        return f"quantised-{self.bits}"

    @property
    def meaning(self) -> str:
        """See Outcome."""
        return f"test accuracy lost by rounding the weights to {self.bits} bits"

    def find(self, network: JudgedNetwork) -> float:
        """See Outcome."""
        rounded = {name: quantise(value, self.bits) for name, value in network.weights().items()}
        with network.changed_weights(rounded):
            return network.accuracy_lost()


def quantise(weights: Tensor, bits: int) -> Tensor:
    """s round(w / s) with s = max |w| / (2^(bits - 1) - 1), ties to even: symmetric, with one scale s per channel.

    A channel is a slice [c, ...] of the tensor: an output of a linear layer or convolution, a row of an embedding.

    >>> quantise(torch.tensor([[-1.0, 0.2, 0.4, 0.9], [0.1, 0.0, 0.03, 0.02]]), 3)
    tensor([[-1.0000,  0.3333,  0.3333,  1.0000],
            [ 0.1000,  0.0000,  0.0333,  0.0333]])
    """
    if not weights.numel():
        return weights
    levels = 2 ** (bits - 1) - 1
    scale = weights.abs().amax(tuple(range(1, weights.dim())), keepdim=True) / levels
    return torch.where(scale > 0, (weights / scale).round() * scale, weights)


@dataclass(frozen=True)
class Pruned(Outcome):
    """Test accuracy lost when the `percent` % of all weights that are smallest in magnitude become 0."""

    percent: int

    @property
    def name(self) -> str:
        """See Outcome."""
        return f"pruned-{self.percent}"

    @property
    def meaning(self) -> str:
        """See Outcome."""
        return f"test accuracy lost by removing the smallest {self.percent} % of the weights"

    def find(self, network: JudgedNetwork) -> float:
        """See Outcome."""
        with network.changed_weights(prune(network.weights(), self.percent)):
            return network.accuracy_lost()


def prune(weights: Mapping[str, Tensor], percent: int) -> dict[str, Tensor]:
    """The tensors with the `percent` % smallest entries of all together set to 0; of equal ones the first go first."""
    if not weights:
        return {}
    flat = torch.cat([value.flatten() for value in weights.values()])
    removed = flat.abs().argsort(stable=True)[: round(len(flat) * percent / 100)]
    kept = flat.index_fill(0, removed, 0.0).split([value.numel() for value in weights.values()])
    return {name: part.view_as(value) for part, (name, value) in zip(kept, weights.items(), strict=True)}
