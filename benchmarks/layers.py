"""Tiny networks in float64 with three outputs, one for each kind of layer that a curvature library may know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from sharpbench import Subject

EXAMPLES, BATCH = 6, 3
OUTPUTS = 3


class Net(nn.Module):
    """A module of named parts and a function of them and the input."""

    def __init__(self, run: Callable[..., Tensor], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


class OwnLinear(nn.Linear):
    """nn.Linear under another name."""


def chain(activation: nn.Module, *, bias: bool = True) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5, bias=bias), activation, nn.Linear(5, OUTPUTS, bias=bias))


def images(*layers: nn.Module, flat: int) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, OUTPUTS))


def tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, OUTPUTS))
    net[2].weight = net[0].weight
    return net


def frozen(net: nn.Module, name: str) -> nn.Module:
    for key, value in net.named_parameters():
        value.requires_grad_(not key.startswith(name))
    return net


def normed() -> nn.Module:
    norm = nn.BatchNorm2d(2)
    for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        nn.init.uniform_(torch.as_tensor(tensor), 0.5, 1.5)
    return images(nn.Conv2d(1, 2, 3), norm, nn.ReLU(), flat=8)


def recurrent(layer: nn.Module) -> nn.Module:
    return Net(lambda net, x: net.head(net.layer(x)[0][:, -1]), layer=layer, head=nn.Linear(3, OUTPUTS))


def heads(net: Any, x: Tensor) -> Tensor:
    q, k, v = net.qkv(x).unflatten(2, (3, 2, 2)).permute(2, 0, 3, 1, 4).unbind(0)
    out: Tensor = net.head(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).mean(1))
    return out


IMAGE, LINE, TOKENS, VECTOR, WORDS = (1, 4, 4), (2, 6), (3, 4), (4,), (3,)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear alone": (lambda: nn.Linear(4, OUTPUTS), VECTOR),
    "ReLU": (lambda: chain(nn.ReLU()), VECTOR),
    "ReLU, no biases": (lambda: chain(nn.ReLU(), bias=False), VECTOR),
    "leaky ReLU": (lambda: chain(nn.LeakyReLU()), VECTOR),
    "in-place ReLU": (lambda: chain(nn.ReLU(inplace=True)), VECTOR),
    "PReLU": (lambda: chain(nn.PReLU()), VECTOR),
    "tanh": (lambda: chain(nn.Tanh()), VECTOR),
    "sigmoid": (lambda: chain(nn.Sigmoid()), VECTOR),
    "GELU": (lambda: chain(nn.GELU()), VECTOR),
    "SiLU": (lambda: chain(nn.SiLU()), VECTOR),
    "dropout": (lambda: chain(nn.Dropout()), VECTOR),
    "ReLU as a function": (
        lambda: Net(lambda net, x: net.b(F.relu(net.a(x))), a=nn.Linear(4, 5), b=nn.Linear(5, OUTPUTS)),
        VECTOR,
    ),
    "residual": (
        lambda: Net(lambda net, x: net.b(net.act(net.a(x)) + x), a=nn.Linear(4, 4), act=nn.ReLU(), b=nn.Linear(4, 3)),
        VECTOR,
    ),
    "concatenation": (
        lambda: Net(
            lambda net, x: net.c(torch.cat((net.a(x).relu(), net.b(x)), 1)),
            a=nn.Linear(4, 3),
            b=nn.Linear(4, 2),
            c=nn.Linear(5, OUTPUTS),
        ),
        VECTOR,
    ),
    "batch norm": (normed, IMAGE),
    "layer norm": (lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 3)), VECTOR),
    "group norm": (lambda: images(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), flat=16), IMAGE),
    "convolution": (lambda: images(nn.Conv2d(1, 2, 3), nn.ReLU(), flat=8), IMAGE),
    "strides and zeros": (lambda: images(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.ReLU(), flat=8), IMAGE),
    "dilated": (lambda: images(nn.Conv2d(1, 2, 2, dilation=2), nn.ReLU(), flat=8), IMAGE),
    "grouped": (lambda: images(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), flat=16), (2, 4, 4)),
    "depthwise": (lambda: images(nn.Conv2d(3, 3, 3, groups=3), nn.ReLU(), flat=12), (3, 4, 4)),
    "circular padding": (
        lambda: images(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.ReLU(), flat=32),
        IMAGE,
    ),
    "padding same": (lambda: images(nn.Conv2d(1, 2, 3, padding="same"), nn.ReLU(), flat=32), IMAGE),
    "small maps": (
        lambda: images(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), flat=24),
        (1, 2, 2),
    ),
    "1-d convolution": (lambda: images(nn.Conv1d(2, 2, 3), nn.ReLU(), flat=8), LINE),
    "3-d convolution": (lambda: images(nn.Conv3d(1, 2, 2), nn.ReLU(), flat=16), (1, 3, 3, 3)),
    "transposed convolution": (lambda: images(nn.ConvTranspose2d(1, 2, 2), nn.ReLU(), flat=32), (1, 3, 3)),
    "max pool": (lambda: images(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), flat=8), IMAGE),
    "average pool": (lambda: images(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), flat=8), IMAGE),
    "adaptive pool": (lambda: images(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), flat=2), IMAGE),
    "linear on tokens": (
        lambda: Net(lambda net, x: net.b(net.a(x).relu().mean(1)), a=nn.Linear(4, 5), b=nn.Linear(5, OUTPUTS)),
        TOKENS,
    ),
    "embedding": (
        lambda: Net(lambda net, x: net.b(net.a(x).flatten(1)), a=nn.Embedding(5, 3), b=nn.Linear(9, OUTPUTS)),
        WORDS,
    ),
    "attention": (lambda: Net(heads, qkv=nn.Linear(4, 12), head=nn.Linear(4, OUTPUTS)), TOKENS),
    "multihead attention": (
        lambda: Net(
            lambda net, x: net.head(net.mix(x, x, x, need_weights=False)[0].mean(1)),
            mix=nn.MultiheadAttention(4, 2, batch_first=True),
            head=nn.Linear(4, OUTPUTS),
        ),
        TOKENS,
    ),
    "LSTM": (lambda: recurrent(nn.LSTM(4, 3, batch_first=True)), TOKENS),
    "GRU": (lambda: recurrent(nn.GRU(4, 3, batch_first=True)), TOKENS),
    "layer applied twice": (
        lambda: Net(lambda net, x: net.b(net.a(net.a(x).relu()).relu()), a=nn.Linear(4, 4), b=nn.Linear(4, OUTPUTS)),
        VECTOR,
    ),
    "tied weights": (tied, VECTOR),
    "frozen first layer": (lambda: frozen(chain(nn.ReLU()), "0"), VECTOR),
    "frozen last layer": (lambda: frozen(chain(nn.ReLU()), "2"), VECTOR),
    "unused layer": (
        lambda: Net(lambda net, x: net.b(net.a(x).relu()), a=nn.Linear(4, 5), b=nn.Linear(5, 3), c=nn.Linear(2, 2)),
        VECTOR,
    ),
    "raw parameter": (
        lambda: Net(
            lambda net, x: net.b(net.a(x).relu() * net.scale),
            a=nn.Linear(4, 5),
            scale=nn.Parameter(torch.rand(5) + 0.5),
            b=nn.Linear(5, OUTPUTS),
        ),
        VECTOR,
    ),
    "weight norm": (lambda: nn.Sequential(weight_norm(nn.Linear(4, 5)), nn.ReLU(), nn.Linear(5, OUTPUTS)), VECTOR),
    "subclass of Linear": (lambda: nn.Sequential(OwnLinear(4, 5), nn.ReLU(), nn.Linear(5, OUTPUTS)), VECTOR),
    "mean squared error": (lambda: chain(nn.ReLU()), VECTOR),
}


def network(name: str) -> Subject:
    """The subject of that name, in float64: EXAMPLES examples in batches of BATCH; equal in every call."""
    build, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build().double()
        inputs = torch.randn(EXAMPLES, *shape, dtype=torch.float64)
        if name == "embedding":
            inputs = torch.randint(5, (EXAMPLES, *shape))
        squared = name == "mean squared error"
        targets = torch.randn(EXAMPLES, OUTPUTS).double() if squared else torch.randint(OUTPUTS, (EXAMPLES,))
    criterion = "mse" if squared else "cross_entropy"
    return Subject.from_module(module, inputs, targets, batch_size=BATCH, loss=criterion, name=name)
