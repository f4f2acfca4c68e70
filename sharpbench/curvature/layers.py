"""Layers: the affine operators of a network whose weight gradients need never be formed, and embeddings.

A linear or convolution whose weight and bias enter nowhere else has the per-example gradient
sum_t delta_t a_t^T over its positions t, with the operator's input a and the derivative delta by its output.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from sharpbench.core.batch import Inputs
from sharpbench.core.graph import Graph, read_nodes, run_graph

aten = torch.ops.aten
CONVOLUTIONS: dict[object, int] = {
    aten.conv1d.default: 1,
    aten.conv1d.padding: 1,
    aten.conv2d.default: 2,
    aten.conv2d.padding: 2,
    aten.conv3d.default: 3,
    aten.conv3d.padding: 3,
}
TRANSPOSED: dict[object, int] = {
    aten.conv_transpose1d.default: 1,
    aten.conv_transpose2d.input: 2,
    aten.conv_transpose3d.input: 3,
}
"""Convolutions and transposed ones, with their spatial dimensions."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One affine operator: its node, the nodes of its input and weight, its measured parameters' names."""

    node: fx.Node
    data: fx.Node
    kernel: fx.Node
    weight: str | None
    bias: str | None

    def factors(self, inputs: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """Patches [B, groups, P, T] and slopes [B, groups, K, O, T], whose products summed over T are the gradients.

        inputs [B, 1, ...], deltas [B, K, 1, ...]. P and O are the inputs under the kernel and the outputs of a
        group; for a transposed convolution, which is the adjoint of one, its inputs and the outputs under it. An
        embedding is a linear layer of one-hot rows; those of its padding are 0.
        """
        if self.embedding:
            return self._one_hot(inputs).to(deltas), self.outputs(deltas)
        if self.node.target == aten.linear.default:
            return inputs.flatten(1, -2).transpose(1, 2).unsqueeze(1), self.outputs(deltas)
        settings = _settings(self.node, self.kernel.meta["val"].shape)
        if not self.transposed:
            return settings.unfold(inputs.flatten(0, 1)).unflatten(1, (settings.groups, -1)), self.outputs(deltas)
        columns = settings.unfold(deltas.flatten(0, 2), tuple(inputs.shape[3:])).unflatten(1, (settings.groups, -1))
        patches = inputs.flatten(3).squeeze(1).unflatten(1, (settings.groups, -1))
        return patches, columns.unflatten(0, deltas.shape[:2]).transpose(1, 2)

    def _one_hot(self, indices: Tensor) -> Tensor:
        """[B, 1, V, T] of indices [B, 1, ...]."""
        rows = self.kernel.meta["val"].shape[0]
        flat = indices.flatten(1)
        padding = self.node.args[2] if len(self.node.args) > 2 else -1
        if isinstance(padding, int) and padding >= 0:
            flat = torch.where(flat == padding, rows, flat)  # no row
        return (torch.arange(rows, device=flat.device)[:, None] == flat[:, None])[:, None]

    @property
    def embedding(self) -> bool:
        """Whether it looks up rows of its weight."""
        return self.node.target == aten.embedding.default

    @property
    def transposed(self) -> bool:
        """Whether it is a transposed convolution, whose slopes are not its outputs'."""
        return self.node.target in TRANSPOSED

    def outputs(self, deltas: Tensor) -> Tensor:
        """The derivatives [B, K, 1, ...] by the output as [B, groups, K, out, T]: the bias's slopes."""
        if self.node.target == aten.linear.default or self.embedding:
            return deltas.flatten(2, -2).transpose(2, 3).unsqueeze(1)
        groups = _settings(self.node, self.kernel.meta["val"].shape).groups
        split: Tensor = deltas.flatten(4).squeeze(2).unflatten(2, (groups, -1))
        return split.transpose(1, 2)

    def shaped(self, weights: Tensor) -> Tensor:
        """Values [groups, O, P], one a weight, in the order in which the weight is stored."""
        return weights.transpose(1, 2) if self.transposed or self.embedding else weights

    def by_group(self, weight: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """A tensor as the weight is stored, as [groups, O, P]: the inverse of `shaped`."""
        groups, outputs, inputs = shape
        if self.transposed or self.embedding:
            return weight.reshape(groups, inputs, outputs).transpose(1, 2)
        return weight.reshape(shape)


def plan_layers(graph: Graph, measured: Collection[str]) -> tuple[Layer, ...]:
    """The layers of `graph` that hold a measured parameter which enters nowhere else."""
    layers = [_layer(graph, node, measured) for node in graph.nodes]
    return tuple(layer for layer in layers if layer is not None and (layer.weight or layer.bias))


def _layer(graph: Graph, node: fx.Node, measured: Collection[str]) -> Layer | None:
    spatial = {**CONVOLUTIONS, **TRANSPOSED}.get(node.target)
    embedding = node.target == aten.embedding.default
    if node.target != aten.linear.default and spatial is None and not embedding:
        return None
    data, weight, bias = (*node.args[:3], None)[:3]
    if embedding:
        data, weight, bias = weight, data, None
    if not isinstance(data, fx.Node) or not isinstance(weight, fx.Node):
        return None
    shape = data.meta["val"].shape
    if spatial is not None and (len(shape) != spatial + 2 or shape[0] != 1):
        return None  # without a batch, or with positions folded into it
    if len(shape) < 2 or weight.meta["val"].ndim < 2:
        return None

    def own(argument: object) -> str | None:
        """The name of a measured parameter that only this operator reads, once."""
        if not isinstance(argument, fx.Node) or argument not in graph.parameters:
            return None
        name = graph.parameters[argument]
        places = [place for place, owner in graph.parameters.items() if owner == name]
        uses = [user for place in places for user in place.users]
        once = len(places) == 1 and uses == [node] and read_nodes((node.args, node.kwargs)).count(argument) == 1
        return name if once and name in measured else None

    return Layer(node, data, weight, own(weight), own(bias))


@dataclass(frozen=True, slots=True)
class _Settings:
    """How a convolution moves over its images. padding: as F.pad takes it."""

    kernel: tuple[int, ...]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    def unfold(self, images: Tensor, positions: tuple[int, ...] = ()) -> Tensor:
        """What the kernel sees of images [N, channels, ...], at each of T positions: [N, channels * kernel, T].

        positions: how many along each axis; all by default.
        """
        padded = F.pad(images, self.padding)
        for axis, count in enumerate(positions):
            reach = (count - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
            padded = padded.narrow(axis + 2, 0, reach)
        for place, (size, width, step) in enumerate(zip(self.kernel, self.dilation, self.stride, strict=True)):
            padded = padded.unfold(place + 2, (size - 1) * width + 1, step)[..., ::width]
        end = 2 + len(self.kernel)  # of [N, channels, positions, kernel]; one copy is faster than torch's own unfold
        ordered = padded.permute(0, 1, *range(end, padded.ndim), *range(2, end))
        return ordered.flatten(end).flatten(1, end - 1)


def _settings(node: fx.Node, shape: torch.Size) -> _Settings:
    """The settings of a convolution, or a transposed one, with a weight of that shape."""
    spatial = len(shape) - 2
    given = (*node.args[3:], *(None,) * 5)
    stride, padding, dilation, groups = given[:4]
    if node.target in TRANSPOSED:
        stride, padding, _, groups, dilation = given[:5]
    widths = _each(dilation, spatial, 1)
    if padding == "same":
        total = [width * (kernel - 1) for width, kernel in zip(widths, shape[2:], strict=True)]
        sides = [(each // 2, each - each // 2) for each in total]
    else:
        sides = [(each, each) for each in _each(None if padding == "valid" else padding, spatial, 0)]
    return _Settings(
        kernel=tuple(shape[2:]),
        stride=_each(stride, spatial, 1),
        padding=[width for side in reversed(sides) for width in side],
        dilation=widths,
        groups=groups if isinstance(groups, int) else 1,
    )


def _each(given: object, spatial: int, default: int) -> list[int]:
    """One integer a spatial dimension; torch lets one stand for all."""
    if isinstance(given, Sequence):
        values = [int(value) for value in given]
        return values * spatial if len(values) == 1 else values
    return [given if isinstance(given, int) else default] * spatial


def run_layer(
    graph: Graph, values: Mapping[str, Tensor], example: Inputs, layers: Sequence[Layer], shifts: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Logits [1, C] of one example [1, ...], and the inputs of the layers; shifts are added to their outputs."""
    shifted = {layer.node: added for layer, added in zip(layers, shifts, strict=True)}
    results = run_graph(graph, values, example, shifted)
    return results[graph.outputs[0]], [results[layer.data] for layer in layers]
