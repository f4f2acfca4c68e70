"""Networks for signals [channels, length], such as those of MNIST-1D: a perceptron, a convnet and a transformer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench.errors import InvalidInput
from sharpbench.models.model import Model
from sharpbench.models.paper import Perceptron, check_size

SIGNAL_SHAPE = (1, 40)
"""The shape of a signal of MNIST-1D."""
SOURCE = "Greydanus, Kobak 2024, Scaling Down Deep Learning with MNIST-1D, arXiv:2011.14439"
FIRST_KERNEL, KERNEL, STRIDE = 5, 3, 2
"""Sizes of the first and the other convolutions of cnn-1d, all with padding 1; the first three have the stride."""
STRIDED_CONVOLUTIONS = 3
PATCH, HEADS, EXPANSION = 4, 2, 2
"""Numbers in a token of transformer-1d, its heads, and the factor by which its perceptrons are wider than a token."""


class SignalConvNet(nn.Module):
    """`depth` convolutions of `width` channels, each with ReLU, and one linear layer."""

    def __init__(self, shape: tuple[int, ...], classes: int, *, width: int, depth: int) -> None:
        super().__init__()
        channels, length = shape
        self.depth = depth
        for index in range(depth):
            kernel, stride = (KERNEL if index else FIRST_KERNEL), (STRIDE if index < STRIDED_CONVOLUTIONS else 1)
            entering = width if index else channels
            self.add_module(f"layer{index}", nn.Conv1d(entering, width, kernel, stride=stride, padding=1))
        self.add_module(f"layer{depth}", nn.Linear(width * _convolved_length(length, depth), classes))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs
        for index in range(self.depth):
            hidden = F.relu(self.get_submodule(f"layer{index}")(hidden))
        output: Tensor = self.get_submodule(f"layer{self.depth}")(hidden.flatten(1))
        return output


def _convolved_length(length: int, depth: int) -> int:
    """The length of a signal behind the convolutions of cnn-1d; below 1 where the signal is too short."""
    for index in range(min(depth, STRIDED_CONVOLUTIONS)):
        length = (length + 2 - (KERNEL if index else FIRST_KERNEL)) // STRIDE + 1
    return length


class Attention(nn.Module):
    """Multi-head self-attention with one linear layer for queries, keys and values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        each = self.qkv(tokens).reshape(batch, count, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        queries, keys, values = each.unbind(0)  # each [B, heads, T, width / heads]
        weights = (queries @ keys.transpose(-2, -1) / math.sqrt(width // HEADS)).softmax(-1)  # [B, heads, T, T]
        mixed = weights @ values
        output: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, width))
        return output


class Block(nn.Module):
    """Attention and a perceptron with GELU, each behind a LayerNorm and added to the tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width)
        self.fc1, self.fc2 = nn.Linear(width, EXPANSION * width), nn.Linear(EXPANSION * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        output: Tensor = tokens + self.fc2(F.gelu(self.fc1(self.norm2(tokens))))
        return output


class SignalTransformer(nn.Module):
    """Tokens of PATCH numbers with learned positions, `depth` blocks, the mean over tokens, and one linear layer."""

    def __init__(self, shape: tuple[int, ...], classes: int, *, width: int, depth: int) -> None:
        super().__init__()
        channels, length = shape
        self.embed = nn.Linear(channels * PATCH, width)
        self.position = nn.Parameter(0.02 * torch.randn(length // PATCH, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        batch, channels, length = inputs.shape
        patches = (
            inputs.reshape(batch, channels, length // PATCH, PATCH).transpose(1, 2).flatten(2)
        )  # [B, T, C * PATCH]
        tokens = self.blocks(self.embed(patches) + self.position)
        output: Tensor = self.head(self.norm(tokens).mean(1))
        return output


@dataclass(frozen=True)
class Mlp1d(Model):
    """Linear layers inputs-100-100-C with ReLU: 15,210 parameters at 40 inputs, 10 classes.

    width: units of each hidden layer; depth: the number of hidden layers.
    """

    name: ClassVar[str] = "mlp-1d"
    title: ClassVar[str] = "perceptron 40-100-100-10 for signals; width and depth can be varied"
    source: ClassVar[str] = SOURCE
    width: int = 100
    depth: int = 2

    def __post_init__(self) -> None:
        check_size(self, width=self.width, depth=self.depth)

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """See Model.input_shape."""
        return SIGNAL_SHAPE

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """See Model.build."""
        return Perceptron((math.prod(shape), *[self.width] * self.depth, classes), bias=True)


@dataclass(frozen=True)
class Cnn1d(Model):
    """Convolutions of 25 channels, kernels 5, 3, 3 with stride 2, and one linear layer: 5,210 parameters at [1, 40].

    width: channels of each convolution; depth: the number of convolutions. Those beyond the third have stride 1.
    """

    name: ClassVar[str] = "cnn-1d"
    title: ClassVar[str] = "three convolutions of 25 channels for signals; width and depth can be varied"
    source: ClassVar[str] = SOURCE
    width: int = 25
    depth: int = 3

    def __post_init__(self) -> None:
        check_size(self, width=self.width, depth=self.depth)

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """See Model.input_shape."""
        return SIGNAL_SHAPE

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """See Model.build."""
        if len(shape) != 2 or _convolved_length(shape[1], self.depth) < 1:
            raise InvalidInput(f"model '{self.name}' takes signals of at least 1x3, got shape {list(shape)}; use 'mlp'")
        return SignalConvNet(shape, classes, width=self.width, depth=self.depth)


@dataclass(frozen=True)
class Transformer1d(Model):
    """Tokens of four numbers, two blocks of attention (two heads) and perceptron: 10,402 parameters at [1, 40].

    width: numbers of a token inside the network, even; depth: the number of blocks. Blocks are those of Dosovitskiy et
    al. 2021 (An Image is Worth 16x16 Words), with perceptrons of twice the width; the head takes the mean token.
    """

    name: ClassVar[str] = "transformer-1d"
    title: ClassVar[str] = "two blocks of attention of width 24 for signals; width and depth can be varied"
    source: ClassVar[str] = "after Dosovitskiy et al. 2021, An Image is Worth 16x16 Words; sizes are our own"
    width: int = 24
    depth: int = 2

    def __post_init__(self) -> None:
        check_size(self, width=self.width, depth=self.depth)
        if self.width % HEADS:
            raise InvalidInput(f"model '{self.name}': width={self.width} must be a multiple of its {HEADS} heads")

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """See Model.input_shape."""
        return SIGNAL_SHAPE

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """See Model.build."""
        if len(shape) != 2 or shape[1] % PATCH:
            raise InvalidInput(
                f"model '{self.name}' takes signals whose length is a multiple of {PATCH}, got shape {list(shape)}; "
                "use 'mlp'"
            )
        return SignalTransformer(shape, classes, width=self.width, depth=self.depth)


SIGNAL_MODELS = (Mlp1d, Cnn1d, Transformer1d)
