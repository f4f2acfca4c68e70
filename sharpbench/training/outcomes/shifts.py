"""What a network loses on test inputs that are changed in a fixed way, the same for all networks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sharpbench.datasets.dataset import Data
from sharpbench.training.outcomes.outcome import JudgedNetwork, Outcome
from sharpbench.training.signals import IMAGE_DIMENSIONS, SHEAR_RANGE, SIGNAL_DIMENSIONS, scale_signals, shear_signals

NOISE_SHARE = 0.3
"""Standard deviation of the noise of `shifted-noise`, in those of all training inputs."""
SCALE_CHANGE, CONTRAST_CHANGE = -0.4, -0.5
BLUR_WIDTH = 3

Shift = Callable[[Tensor, Data, torch.Generator], Tensor]
"""The changed test inputs [n, ...]."""


def _add_noise(inputs: Tensor, data: Data, generator: torch.Generator) -> Tensor:
    noise = torch.randn(inputs.shape, generator=generator).to(inputs)
    return inputs + NOISE_SHARE * data.train_inputs.std() * noise


def _shear(inputs: Tensor, data: Data, generator: torch.Generator) -> Tensor:
    draws = torch.rand(len(inputs), 1, 1, generator=generator).to(inputs) - 0.5
    return shear_signals(inputs, SHEAR_RANGE * draws)


def _scale(inputs: Tensor, data: Data, generator: torch.Generator) -> Tensor:
    return scale_signals(inputs, SCALE_CHANGE)


def _lower_contrast(inputs: Tensor, data: Data, generator: torch.Generator) -> Tensor:
    mean = inputs.mean((-2, -1), keepdim=True)
    return mean + (1 + CONTRAST_CHANGE) * (inputs - mean)


def _blur(inputs: Tensor, data: Data, generator: torch.Generator) -> Tensor:
    return F.avg_pool2d(inputs, BLUR_WIDTH, stride=1, padding=BLUR_WIDTH // 2, count_include_pad=False)


SIGNAL_SHIFTS: Mapping[str, Shift] = {"noise": _add_noise, "shear": _shear, "scale": _scale}
IMAGE_SHIFTS: Mapping[str, Shift] = {"noise": _add_noise, "blur": _blur, "contrast": _lower_contrast}
WORDS = {
    "noise": "noise of 0.3 standard deviations",
    "shear": "shear as the generator of MNIST-1D draws it, a second time",
    "scale": "signals of 0.6 times their size",
    "blur": "images blurred over 3 x 3 pixels",
    "contrast": "images of half their contrast",
}


@dataclass(frozen=True)
class Shifted(Outcome):
    """Test accuracy lost when the test inputs are changed; random changes are drawn once for all networks."""

    kind: str

    @property
    def name(self) -> str:
        """See Outcome."""
        return f"shifted-{self.kind}"

    @property
    def meaning(self) -> str:
        """See Outcome."""
        return f"test accuracy lost by {WORDS[self.kind]}"

    def find(self, network: JudgedNetwork) -> float:
        """See Outcome."""
        return network.accuracy_lost(self.shift(network.data))

    def shift(self, data: Data) -> Tensor:
        """The changed test inputs, the same for every network on these data."""
        seed = int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8], "big") >> 1
        change = _shifts_of(data)[self.kind]
        return change(data.test_inputs, data, torch.Generator().manual_seed(seed))

    def objection(self, data: Data) -> str | None:
        """See Outcome."""
        if self.kind in _shifts_of(data):
            return None
        known = ", ".join(f"shifted-{kind}" for kind in _shifts_of(data)) or "none of the shifts"
        return f"inputs of shape {list(data.shape)} have {known}"


def _shifts_of(data: Data) -> Mapping[str, Shift]:
    """The changes that inputs of this shape can have."""
    if not data.test_inputs.is_floating_point():
        return {}
    return {SIGNAL_DIMENSIONS: SIGNAL_SHIFTS, IMAGE_DIMENSIONS: IMAGE_SHIFTS}.get(len(data.shape), {})
