"""Changes of signals [..., length] that keep their class, in the units of MNIST-1D: scale, shear and noise."""

from __future__ import annotations

import torch
from torch import Tensor

SIGNAL_DIMENSIONS, IMAGE_DIMENSIONS = 2, 3
"""Dimensions of one signal, [channels, length], and of one image, [channels, height, width]."""
SCALE_RANGE, SHEAR_RANGE, NOISE_DEVIATION = 0.4, 4.85, 0.13
"""What the generator of MNIST-1D draws: the widths of the ranges of scale and shear, and the deviation of its
independent noise. Shear and noise are in units of the standard deviation of the data, which is 0.155 there."""


def scale_signals(signals: Tensor, change: Tensor | float) -> Tensor:
    """signals (1 + change); change: a number, or one for each signal, which broadcasts against `signals`."""
    return signals * (1 + change)


def shear_signals(signals: Tensor, shear: Tensor | float) -> Tensor:
    """The signals less a line that rises by `shear` from end to end and is 0 in the middle; shear: as for `scale`."""
    line = torch.linspace(-0.5, 0.5, signals.shape[-1], dtype=signals.dtype, device=signals.device)
    return signals - shear * line
