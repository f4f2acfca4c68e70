"""What a network loses on test inputs that are changed in a fixed way, the same for all networks."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sharpbench.datasets.dataset import Data
from sharpbench.datasets.decode import MAX_LEVEL
from sharpbench.training.outcomes.outcome import JudgedNetwork, Outcome
from sharpbench.training.signals import IMAGE_DIMENSIONS, SHEAR_RANGE, SIGNAL_DIMENSIONS, scale_signals, shear_signals

NOISE_SHARE = 0.3
"""Standard deviation of the noise of `shifted-noise`, in those of all training inputs."""
SCALE_CHANGE, CONTRAST_CHANGE = -0.4, -0.5
BLUR_WIDTH = 3
JPEG_QUALITY = 50
"""The quality of the JPEG files of `shifted-jpeg`, severity 4 of CIFAR-10-C (Hendrycks, Dietterich 2019)."""
JPEG_CHANNELS = (1, 3)
"""Channels of images in grey and in colour."""

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


def _compress(inputs: Tensor, data: Data, generator: torch.Generator) -> Tensor:
    lowest, highest = data.train_inputs.aminmax()
    width = (highest - lowest) / MAX_LEVEL
    if not width > 0:
        return inputs
    levels = ((inputs - lowest) / width).round().clamp(0, MAX_LEVEL).to("cpu", torch.uint8)
    images = [_through_jpeg(image) for image in levels.permute(0, 2, 3, 1).numpy()]
    decoded = torch.from_numpy(np.stack(images)).view(len(inputs), *inputs.shape[2:], inputs.shape[1])
    return lowest + width * decoded.permute(0, 3, 1, 2).to(inputs)


def _through_jpeg(image: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The levels [height, width, channels] after JPEG compression; without the last dimension in grey."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(file, "jpeg", quality=JPEG_QUALITY)
    return np.asarray(Image.open(file))


SIGNAL_SHIFTS: Mapping[str, Shift] = {"noise": _add_noise, "shear": _shear, "scale": _scale}
IMAGE_SHIFTS: Mapping[str, Shift] = {"noise": _add_noise, "blur": _blur, "contrast": _lower_contrast, "jpeg": _compress}
WORDS = {
    "noise": "noise of 0.3 standard deviations",
    "shear": "shear as the generator of MNIST-1D draws it, a second time",
    "scale": "signals of 0.6 times their size",
    "blur": "images blurred over 3 x 3 pixels",
    "contrast": "images of half their contrast",
    "jpeg": "compression as JPEG of quality 50",
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
    shifts = {SIGNAL_DIMENSIONS: SIGNAL_SHIFTS, IMAGE_DIMENSIONS: IMAGE_SHIFTS}.get(len(data.shape), {})
    without = () if data.shape[:1] and data.shape[0] in JPEG_CHANNELS else ("jpeg",)
    return {kind: shift for kind, shift in shifts.items() if kind not in without}
