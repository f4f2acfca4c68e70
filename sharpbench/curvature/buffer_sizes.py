"""How many numbers one example makes in a network, from the shapes in its graph: what predicts memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

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


class ResultCounter(TorchDispatchMode):
    """Counts the operators that run inside and the numbers in their results, recurrent layers by their steps.

    numbers: in all results, without views of what was given. largest: in the largest one. windows: in those of the
    input of a convolution, where they are most.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators, self.numbers, self.largest, self.windows = 0, 0, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        results = func(*args, **(kwargs or {}))
        self.operators += 1
        given = set(_storages((args, kwargs)))
        for storage, count in _storages(results).items():
            if storage not in given:
                self.numbers += count
                self.largest = max(self.largest, count)
        if func is torch.ops.aten.convolution.default:
            inputs, weight, transposed = args[0], args[1], args[6]
            positions = (inputs if transposed else results).numel() // weight.shape[0]
            self.windows = max(self.windows, positions * weight[0].numel())
        return results


def _storages(tree: Any) -> dict[int, int]:
    """Where the tensors of a tree have their numbers, and how many."""
    tensors = [each for each in pytree.tree_leaves(tree) if isinstance(each, Tensor)]
    return {each.untyped_storage()._cdata: each.numel() for each in tensors}


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
