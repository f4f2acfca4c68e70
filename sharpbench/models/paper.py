"""The four networks of Minimum Sharpness (Ibayashi, Hamaguchi, Imaizumi 2021), with the authors' parameter names.

The layers are attributes layer0, layer1, ..., as in the authors' code, so that their checkpoints load. All
activations are ReLU, and the initialisation is PyTorch's default.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench.core.fields import check_fields
from sharpbench.errors import InvalidInput
from sharpbench.models.model import Model

SOURCE = "Ibayashi, Hamaguchi, Imaizumi 2021, Minimum Sharpness, section 5"
KERNEL_SIZE = 5
POOLED_CONVOLUTIONS = 2
"""The number of convolutions of small-cnn that are pooled."""
MAX_WIDTH, MAX_DEPTH = 65_536, 100
"""Bounds of the small networks' width and depth. Beyond them memory would not suffice, or training would fail."""


class Perceptron(nn.Module):
    """Linear layers with ReLU between them; inputs are flattened."""

    def __init__(self, widths: Sequence[int], *, bias: bool) -> None:
        super().__init__()
        self.depth = len(widths) - 1
        for index in range(self.depth):
            self.add_module(f"layer{index}", nn.Linear(widths[index], widths[index + 1], bias=bias))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs.flatten(1)
        for index in range(self.depth - 1):
            hidden = F.relu(self.get_submodule(f"layer{index}")(hidden))
        output: Tensor = self.get_submodule(f"layer{self.depth - 1}")(hidden)
        return output


class LeNetModule(nn.Module):
    """Convolutions 6, 16, 120 of 5x5 and linear layers 84, C; pools (2, stride 1), (2, stride 2), none."""

    def __init__(self, shape: tuple[int, ...], classes: int, *, bias: bool) -> None:
        super().__init__()
        channels, height, width = shape
        self.layer0 = nn.Conv2d(channels, 6, KERNEL_SIZE, padding=2, bias=bias)
        self.layer1 = nn.Conv2d(6, 16, KERNEL_SIZE, bias=bias)
        self.layer2 = nn.Conv2d(16, 120, KERNEL_SIZE, bias=bias)
        self.layer3 = nn.Linear(120 * _lenet_side(height) * _lenet_side(width), 84, bias=bias)
        self.layer4 = nn.Linear(84, classes, bias=bias)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.max_pool2d(F.relu(self.layer0(inputs)), 2, stride=1)
        hidden = F.max_pool2d(F.relu(self.layer1(hidden)), 2)
        hidden = F.relu(self.layer2(hidden)).flatten(1)
        output: Tensor = self.layer4(F.relu(self.layer3(hidden)))
        return output


def _lenet_side(side: int) -> int:
    return (side - 1 - (KERNEL_SIZE - 1)) // 2 - (KERNEL_SIZE - 1)


class ConvNet(nn.Module):
    """`depth` convolutions of `width` channels, 5x5, each with ReLU, and one linear layer.

    The first two are not padded and are followed by max pooling 2; the others are padded and keep the size.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, *, width: int, depth: int, bias: bool) -> None:
        super().__init__()
        channels, height, width_in = shape
        self.depth = depth
        for index in range(depth):
            padding = 0 if index < POOLED_CONVOLUTIONS else KERNEL_SIZE // 2
            entering = width if index else channels
            self.add_module(f"layer{index}", nn.Conv2d(entering, width, KERNEL_SIZE, padding=padding, bias=bias))
        features = width * _small_cnn_side(height, depth) * _small_cnn_side(width_in, depth)
        self.add_module(f"layer{depth}", nn.Linear(features, classes, bias=bias))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs
        for index in range(self.depth):
            hidden = F.relu(self.get_submodule(f"layer{index}")(hidden))
            hidden = F.max_pool2d(hidden, 2) if index < POOLED_CONVOLUTIONS else hidden
        output: Tensor = self.get_submodule(f"layer{self.depth}")(hidden.flatten(1))
        return output


def _small_cnn_side(side: int, depth: int) -> int:
    for _ in range(min(depth, POOLED_CONVOLUTIONS)):
        side = (side - (KERNEL_SIZE - 1)) // 2
    return side


def _check_image(name: str, shape: tuple[int, ...], left: list[int], smallest: str) -> None:
    if len(shape) != 3 or min(left) < 1:
        raise InvalidInput(f"model '{name}' takes images of at least {smallest}, got shape {list(shape)}; use 'mlp'")


@dataclass(frozen=True)
class Mlp(Model):
    """Linear layers inputs-512-128-512-C: 538,762 parameters at 784 inputs, 10 classes, with biases."""

    name: ClassVar[str] = "mlp"
    title: ClassVar[str] = "perceptron 784-512-128-512-10"
    source: ClassVar[str] = SOURCE
    bias: bool = True

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """See Model.build."""
        return Perceptron((math.prod(shape), 512, 128, 512, classes), bias=self.bias)


@dataclass(frozen=True)
class SmallMlp(Model):
    """Linear layers inputs-20-20-C: 16,330 parameters at 784 inputs, 10 classes, with biases.

    width: units of each hidden layer; depth: the number of hidden layers. The paper has two of 20 units.
    """

    name: ClassVar[str] = "small-mlp"
    title: ClassVar[str] = "perceptron 784-20-20-10; width and depth can be varied"
    source: ClassVar[str] = SOURCE
    bias: bool = True
    width: int = 20
    depth: int = 2

    def __post_init__(self) -> None:
        check_size(self, width=self.width, depth=self.depth)

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """See Model.build."""
        return Perceptron((math.prod(shape), *[self.width] * self.depth, classes), bias=self.bias)


@dataclass(frozen=True)
class LeNet(Model):
    """The paper's LeNet: 545,546 parameters at 1x28x28, 10 classes, with biases."""

    name: ClassVar[str] = "lenet"
    title: ClassVar[str] = "convolutions 6, 16, 120 of 5x5, linear 84, 10"
    source: ClassVar[str] = SOURCE
    bias: bool = True

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """See Model.build."""
        _check_image(self.name, shape, [_lenet_side(side) for side in shape[1:]] or [0], "1x15x15")
        return LeNetModule(shape, classes, bias=self.bias)


@dataclass(frozen=True)
class SmallCnn(Model):
    """Two convolutions and one linear layer: 13,750 parameters at 1x28x28, 10 classes, with biases.

    width: channels of each convolution; depth: the number of convolutions. The paper has two of 20 channels.
    """

    name: ClassVar[str] = "small-cnn"
    title: ClassVar[str] = "convolutions 20, 20 of 5x5, linear 10; width and depth can be varied"
    source: ClassVar[str] = SOURCE
    bias: bool = True
    width: int = 20
    depth: int = 2

    def __post_init__(self) -> None:
        check_size(self, width=self.width, depth=self.depth)

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """See Model.build."""
        smallest = "1x6x6" if self.depth == 1 else "1x16x16"
        _check_image(self.name, shape, [_small_cnn_side(side, self.depth) for side in shape[1:]] or [0], smallest)
        return ConvNet(shape, classes, width=self.width, depth=self.depth, bias=self.bias)


def check_size(model: Model, *, width: int, depth: int) -> None:
    """Raise InvalidInput for fields of another type, and for a width or a depth out of its bounds."""
    check_fields(model, kind="model")
    for name, value, maximum in (("width", width, MAX_WIDTH), ("depth", depth, MAX_DEPTH)):
        if not 1 <= value <= maximum:
            raise InvalidInput(f"model '{model.name}': {name}={value} must be from 1 to {maximum:,}")


PAPER_MODELS = (Mlp, LeNet, SmallMlp, SmallCnn)
