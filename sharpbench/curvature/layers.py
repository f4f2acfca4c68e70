"""Layers: the affine operators of a network whose weight gradients need never be formed.

A linear or convolution whose weight and bias enter nowhere else has the per-example gradient
sum_t delta_t a_t^T over its positions t, with the operator's input a and the derivative delta by its output.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from sharpbench.graph import Graph

aten = torch.ops.aten
CONVOLUTIONS: dict[object, int] = {
    aten.conv1d.default: 1,
    aten.conv1d.padding: 1,
    aten.conv2d.default: 2,
    aten.conv2d.padding: 2,
}


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One affine operator: its node, the nodes of its input and weight, its measured parameters' names."""

    node: fx.Node
    data: fx.Node
    kernel: fx.Node
    weight: str | None
    bias: str | None

    def patches(self, inputs: Tensor) -> Tensor:
        """The input [B, 1, ...] as [B, groups, P, T]: what multiplies each row of the weight, at each position."""
        if self.node.target == aten.linear.default:
            return inputs.flatten(1, -2).transpose(1, 2).unsqueeze(1)
        spatial = CONVOLUTIONS[self.node.target]
        shape = self.kernel.meta["val"].shape
        stride, padding, dilation, groups = _convolution(self.node, spatial, shape)
        padded = F.pad(inputs.flatten(0, 1), padding)
        if spatial == 1:  # unfold knows images alone
            padded, shape = padded.unsqueeze(2), torch.Size((*shape[:2], 1, shape[2]))
            stride, dilation = [1, *stride], [1, *dilation]
        columns = F.unfold(padded, tuple(shape[2:]), dilation=tuple(dilation), stride=tuple(stride))
        split: Tensor = columns.unflatten(1, (groups, -1))
        return split

    def slopes(self, deltas: Tensor) -> Tensor:
        """The derivatives [B, K, 1, ...] by the output as [B, groups, K, out, T], out per group."""
        if self.node.target == aten.linear.default:
            return deltas.flatten(2, -2).transpose(2, 3).unsqueeze(1)
        groups = _convolution(self.node, CONVOLUTIONS[self.node.target], self.kernel.meta["val"].shape)[3]
        split: Tensor = deltas.flatten(4).squeeze(2).unflatten(2, (groups, -1))
        return split.transpose(1, 2)


def plan(graph: Graph, measured: Collection[str]) -> tuple[Layer, ...]:
    """The layers of `graph` that hold a measured parameter which enters nowhere else."""
    layers = [_layer(graph, node, measured) for node in graph.nodes]
    return tuple(layer for layer in layers if layer is not None and (layer.weight or layer.bias))


def _layer(graph: Graph, node: fx.Node, measured: Collection[str]) -> Layer | None:
    if node.target != aten.linear.default and node.target not in CONVOLUTIONS:
        return None
    data, weight, bias = (*node.args[:3], None)[:3]
    if not isinstance(data, fx.Node) or not isinstance(weight, fx.Node):
        return None
    shape = data.meta["val"].shape
    if node.target in CONVOLUTIONS and (len(shape) != CONVOLUTIONS[node.target] + 2 or shape[0] != 1):
        return None  # without a batch, or with positions folded into it
    if len(shape) < 2:
        return None

    def own(argument: object) -> str | None:
        """The name of a measured parameter that this operator alone reads, once."""
        if not isinstance(argument, fx.Node) or argument not in graph.parameters:
            return None
        name = graph.parameters[argument]
        places = [place for place, owner in graph.parameters.items() if owner == name]
        uses = [user for place in places for user in place.users]
        once = len(places) == 1 and uses == [node] and node.all_input_nodes.count(argument) == 1
        return name if once and name in measured else None

    return Layer(node, data, weight, own(weight), own(bias))


def _convolution(node: fx.Node, spatial: int, shape: torch.Size) -> tuple[list[int], list[int], list[int], int]:
    """stride, padding as F.pad takes it, dilation and groups of a convolution with a weight of that shape."""
    given = (*node.args[3:], *(None,) * 4)[:4]
    stride, dilation = _each(given[0], spatial, 1), _each(given[2], spatial, 1)
    groups = given[3] if isinstance(given[3], int) else 1
    if given[1] == "same":
        total = [width * (kernel - 1) for width, kernel in zip(dilation, shape[2:], strict=True)]
        sides = [(each // 2, each - each // 2) for each in total]
    else:
        sides = [(each, each) for each in _each(None if given[1] == "valid" else given[1], spatial, 0)]
    return stride, [width for side in reversed(sides) for width in side], dilation, groups


def _each(given: object, spatial: int, default: int) -> list[int]:
    """One integer a spatial dimension; torch lets one stand for all."""
    if isinstance(given, Sequence):
        values = [int(value) for value in given]
        return values * spatial if len(values) == 1 else values
    return [given if isinstance(given, int) else default] * spatial


def run(
    graph: Graph, values: Mapping[str, Tensor], example: Tensor, layers: Sequence[Layer], shifts: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Logits [1, C] of one example [1, ...], and the inputs of the layers; shifts are added to their outputs."""
    held: dict[fx.Node, Tensor] = dict(graph.constants)
    held.update({place: values[name] for place, name in (*graph.parameters.items(), *graph.buffers.items())})
    held.update(dict.fromkeys(graph.inputs, example))
    shift = {layer.node: added for layer, added in zip(layers, shifts, strict=True)}
    for node in graph.nodes:
        arguments, options = fx.node.map_arg((node.args, node.kwargs), held.__getitem__)
        operator = INSTEAD.get(node.target, cast(Callable[..., Tensor], node.target))
        result = operator(*arguments, **options)
        held[node] = result + shift[node] if node in shift else result
    return held[graph.outputs[0]], [held[layer.data] for layer in layers]


def _prelu(inputs: Tensor, slope: Tensor) -> Tensor:
    """PReLU by its definition: torch's own, vmapped over examples and columns, mixes up the two (torch 2.13)."""
    channels = (-1, *(1,) * (inputs.ndim - 2)) if inputs.ndim > 1 else ()
    return torch.where(inputs > 0, inputs, (slope.reshape(channels) if slope.numel() > 1 else slope) * inputs)


INSTEAD: dict[object, Callable[..., Tensor]] = {aten.prelu.default: _prelu}
"""Operators that are run as something equal, because torch's derivative of them is wrong or slow under vmap."""
