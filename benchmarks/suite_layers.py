"""Networks of the kinds in the test suites of BackPACK, curvlinops and nngeometry that the other tables lack.

Each is written anew, with three outputs where its loss allows it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.layers import Net
from benchmarks.unusual_layers import KINDS, OUTPUTS, WIDTH, Kind, hot, layers, mlp


def characters(kind: type[nn.RNNBase]) -> Kind:
    """Two recurrent layers over the embeddings of three indices; one bias is not trained."""

    def build() -> nn.Module:
        net = Net(
            lambda net, x: net.head(net.cells(net.e(x))[0].permute(0, 2, 1).mean(2)),
            e=nn.Embedding(WIDTH, 2),
            cells=kind(2, 3, num_layers=2, batch_first=True),
            head=nn.Linear(3, OUTPUTS),
        )
        net.cells.bias_ih_l0.requires_grad_(False)
        return net

    return Kind(build, (3,), integers=True)


def unit_filters(net: Any, x: Tensor) -> Tensor:
    """A convolution and a linear layer whose weights have norm 1 by output."""
    filters = net.filters / (net.filters.square().sum((1, 2, 3), keepdim=True) + 1e-3).sqrt()
    hidden = F.conv2d(x, filters, stride=2).relu().flatten(1)
    return F.linear(hidden, net.rows / (net.rows.square().sum(1, keepdim=True) + 1e-3).sqrt())


def cosines(net: Any, x: Tensor) -> Tensor:
    """Two layers of the cosines between inputs and weights."""
    hidden = F.linear(F.normalize(x, dim=1), F.normalize(net.one, dim=1)).relu()
    return F.linear(F.normalize(hidden + 0.1, dim=1), F.normalize(net.two, dim=1))


def summed_maps(net: Any, x: Tensor) -> Tensor:
    """Convolutions with a skip connection between them, summed over positions."""
    before = net.one(x).relu()
    after = net.three(net.two(before).relu()).relu()
    return net.four(after + before).relu().sum((2, 3))


def both_signs(net: Any, x: Tensor) -> Tensor:
    hidden = net.one(x)
    return torch.stack((net.plus(hidden).sum(1), net.minus(-hidden).sum(1), hidden.sum(1)), 1)


def u_net(net: Any, x: Tensor) -> Tensor:
    """Down, up and the maps of the way down next to those of the way up."""
    down = net.down(x).relu()
    deep = net.deep(F.max_pool2d(down, 2)).relu()
    up = net.up(deep)
    return net.out(torch.cat((down, up), 1)).mean((2, 3))


def residual_block(net: Any, x: Tensor) -> Tensor:
    out = net.second(net.conv2(net.first(net.conv1(x)).relu()))
    return net.head((out + net.shortcut(x)).relu().mean((2, 3)))


def encoder() -> nn.Module:
    block = nn.TransformerEncoderLayer(WIDTH, 2, 5, dropout=0.1, batch_first=True)
    return Net(lambda net, x: net.head(net.block(x).mean(1)), block=block, head=nn.Linear(WIDTH, OUTPUTS))


def convolutions(**parts: nn.Module) -> dict[str, Any]:
    return dict(parts)


SUITES: dict[str, Kind] = {
    "two LSTM layers": characters(nn.LSTM),
    "two RNN layers": characters(nn.RNN),
    "both directions": Kind(
        lambda: Net(
            lambda net, x: net.head(net.cells(x.reshape(len(x), 2, 2))[0][:, -1]),
            cells=nn.GRU(2, 2, batch_first=True, bidirectional=True),
            head=nn.Linear(4, OUTPUTS),
        )
    ),
    "transposed convolution, 1d": Kind(layers(lambda: nn.ConvTranspose1d(1, 2, 2, stride=2), width=16), (1, 4)),
    "transposed convolution, 3d": Kind(layers(lambda: nn.ConvTranspose3d(1, 2, 2), width=54), (1, 2, 2, 2)),
    "pooling, 1d": Kind(
        layers(lambda: nn.Conv1d(1, 2, 2), lambda: nn.MaxPool1d(2, 1), lambda: nn.AvgPool1d(2, 1), width=4), (1, 5)
    ),
    "pooling, 3d": Kind(
        layers(lambda: nn.Conv3d(1, 2, 2), lambda: nn.MaxPool3d(2, 1), lambda: nn.AdaptiveAvgPool3d(1), width=2),
        (1, 4, 4, 4),
    ),
    "slices": Kind(
        lambda: Net(
            lambda net, x: net.head(net.one(x)[:, 1::2].sigmoid()), one=nn.Linear(WIDTH, 6), head=nn.Linear(3, OUTPUTS)
        )
    ),
    "constant factors": Kind(
        lambda: Net(
            lambda net, x: (0.5 * net.two(net.one(x * 2.5).relu())).multiply(3.1415),
            one=nn.Linear(WIDTH, 5),
            two=nn.Linear(5, OUTPUTS),
        )
    ),
    "filters of norm 1": Kind(
        lambda: Net(
            unit_filters,
            filters=nn.Parameter(torch.randn(3, 1, 2, 2)),
            rows=nn.Parameter(torch.randn(OUTPUTS, 12)),
        ),
        (1, 4, 4),
    ),
    "cosine layers": Kind(
        lambda: Net(cosines, one=nn.Parameter(torch.randn(5, WIDTH)), two=nn.Parameter(torch.randn(OUTPUTS, 5)))
    ),
    "summed maps": Kind(
        lambda: Net(
            summed_maps,
            one=nn.Conv2d(1, 2, 3, padding=1),
            two=nn.Conv2d(2, 2, 3, padding=1),
            three=nn.Conv2d(2, 2, 3, padding=1),
            four=nn.Conv2d(2, OUTPUTS, 3, padding=1),
        ),
        (1, 3, 3),
    ),
    "batch norm of both signs": Kind(
        lambda: Net(both_signs, one=nn.Linear(WIDTH, 5), plus=nn.BatchNorm1d(5), minus=nn.BatchNorm1d(5))
    ),
    "U-net": Kind(
        lambda: Net(
            u_net,
            down=nn.Conv2d(1, 2, 3, padding=1),
            deep=nn.Conv2d(2, 3, 3, padding=1),
            up=nn.ConvTranspose2d(3, 2, 2, stride=2),
            out=nn.Conv2d(4, OUTPUTS, 1),
        ),
        (1, 4, 4),
    ),
    "residual block": Kind(
        lambda: Net(
            residual_block,
            conv1=nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False),
            first=nn.BatchNorm2d(3),
            conv2=nn.Conv2d(3, 3, 3, padding=1, bias=False),
            second=nn.BatchNorm2d(3),
            shortcut=nn.Sequential(nn.Conv2d(2, 3, 1, stride=2, bias=False), nn.BatchNorm2d(3)),
            head=nn.Linear(3, OUTPUTS),
        ),
        (2, 4, 4),
    ),
    "transformer encoder": Kind(encoder, (3, WIDTH)),
    "mean over a sequence": Kind(
        lambda: Net(lambda net, x: net.two(net.one(x).relu()).mean(1), one=nn.Linear(2, 5), two=nn.Linear(5, OUTPUTS)),
        (3, 2),
    ),
    "linear layers only": Kind(
        lambda: nn.Sequential(nn.Linear(WIDTH, 3), nn.Linear(3, OUTPUTS)),
        losses=lambda z, y: F.mse_loss(z, hot(z, y), reduction="none").mean(1),
    ),
    "one binary output": Kind(
        lambda: nn.Sequential(nn.Linear(WIDTH, 5), nn.ReLU(), nn.Linear(5, 1)),
        losses=lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], (y > 0).to(z), reduction="none"),
    ),
    "summed squared error": mlp(nn.ReLU, lambda z, y: F.mse_loss(z, hot(z, y), reduction="none").sum(1)),
}

ALL_KINDS = {**KINDS, **SUITES}
