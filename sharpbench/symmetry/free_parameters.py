"""Which parameters may be rescaled: their first names, without those that share memory with others."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import torch
from torch import Tensor, nn

from sharpbench.core.graph import Graph
from sharpbench.errors import InvalidInput


def free_parameters(model: nn.Module, graph: Graph, parameters: Collection[str] | None = None) -> set[str]:
    """The first names of `parameters`, without those that share memory with others; None: all with gradients."""
    if parameters is None:
        parameters = [name for name, value in model.named_parameters() if value.requires_grad]
    return first_names(graph, parameters) - find_overlapping(model)


def first_names(graph: Graph, parameters: Collection[str]) -> set[str]:
    """The names under which the graph knows these parameters."""
    known = {name: first for name, first in graph.tied.items() if first not in graph.buffers.values()}
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise InvalidInput(f"parameters={unknown} are not in the network, which has {', '.join(known)}")
    return {known[name] for name in parameters}


def find_overlapping(model: nn.Module) -> frozenset[str]:
    """The names of parameters and buffers that share memory with another: views, aliases, `data` set to another's.

    The graph shows them as different tensors, but writing into one also changes the other. A parameter under several
    names is one tensor and is known by its first name.
    """
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    spans = [
        (str(value.device), *_address_range(value), name)
        for name, value in named
        if value.numel() and not value.is_meta and value.layout == torch.strided
    ]
    found: set[str] = set()
    reach: tuple[str, int, str] = ("", 0, "")
    for device, start, stop, name in sorted(spans):
        if device == reach[0] and start < reach[1]:
            found.update((name, reach[2]))
        if device != reach[0] or stop > reach[1]:
            reach = (device, stop, name)
    return frozenset(found)


def _address_range(value: Tensor) -> tuple[int, int]:
    """The addresses of its first byte and of the byte after its last."""
    entries = 1 + sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
    return value.data_ptr(), value.data_ptr() + entries * value.element_size()
