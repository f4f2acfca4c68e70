"""How many numbers one example makes in a network, from the shapes in its graph: what predicts memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, fx

from sharpbench.core.batch import Inputs, count_entries
from sharpbench.core.graph import Graph
from sharpbench.curvature.layers import Layer

GUESS = 10
"""Without a graph, the network's results together are estimated as this multiple of its inputs."""


@dataclass(frozen=True, slots=True)
class BufferSizes:
    """How many numbers one example makes. results: in the results of all operators. passed: in the largest one that
    depends on a parameter. layers: in each layer's patches and in its output."""

    results: int
    passed: int
    layers: tuple[tuple[int, int], ...]


def guess_buffers(inputs: Inputs) -> BufferSizes:
    """The sizes where there is no graph, from those of the inputs."""
    guess = count_entries(inputs) * GUESS
    return BufferSizes(guess, guess, ())


def count_buffers(graph: Graph, layers: tuple[Layer, ...]) -> BufferSizes:
    """The sizes of a graph with these layers."""
    moving = set(graph.parameters)
    passed = 0
    for node in graph.nodes:
        if not moving.isdisjoint(node.all_input_nodes):
            moving.add(node)
            passed = max(passed, _numel(node))
    return BufferSizes(
        results=sum(_numel(node) for node in graph.nodes),
        passed=passed,
        layers=tuple((_count_patches(layer), _numel(layer.node)) for layer in layers),
    )


def _count_patches(layer: Layer) -> int:
    """The numbers in the patches of one example."""
    rows, *rest = layer.kernel.meta["val"].shape
    outputs, inputs = (math.prod(rest), rows) if layer.embedding else (rows, math.prod(rest))
    patches: int = _numel(layer.node) // outputs * inputs
    return patches


def _numel(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.numel() if isinstance(value, Tensor) else 0
