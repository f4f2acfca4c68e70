"""Memory: what a pullback holds at once, predicted from the graph, and the chunks that keep it in bounds."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, fx

from sharpbench.curvature import squares
from sharpbench.curvature.layers import Layer
from sharpbench.curvature.network import Network
from sharpbench.graph import Graph

CACHE_BYTES = 64 * 2**20
"""On a CPU chunks are kept near this: larger ones leave the caches and are slower."""

MOST_BYTES = 2**30
"""Columns are split where one example with all of them is above this; on a GPU chunks are as large."""


GUESS = 10
"""Without a graph, the network's results together are taken to be so many times its inputs."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """examples, columns: how many go through together. bytes: the predicted peak above the subject."""

    examples: int
    columns: int
    bytes: int

    def halved(self) -> Chunk | None:
        """The next smaller chunk, fewer examples first, then fewer columns; None where there is none."""
        if self.examples > 1:
            return Chunk(math.ceil(self.examples / 2), self.columns, self.bytes // 2)
        if self.columns > 1:
            return Chunk(1, math.ceil(self.columns / 2), self.bytes // 2)
        return None


def choose(network: Network, columns: int, budget: int | None = None) -> Chunk:
    """Equal chunks of examples and columns whose predicted peak is below `budget` bytes, if one of each is.

    budget: by default what is fastest. Raises MemoryError, naming both figures, where not even one example and
    one column fit into what is free.
    """
    device = next(iter(network.subject.params.values())).device
    fixed, free = _fixed(network), free_bytes(device)
    least = fixed + _example(network, 1)
    if free is not None and least > free:
        raise MemoryError(
            f"one example takes {least / 2**30:.2f} GiB and {free / 2**30:.2f} GiB are free on {device}; "
            "use smaller inputs or a device with more memory"
        )
    most = (budget or min(MOST_BYTES + fixed, free or sys.maxsize)) - fixed
    goal = most if budget or device.type == "cuda" else min(most, CACHE_BYTES)
    examples = _fitting(len(network.subject.inputs), goal // _example(network, columns))
    together = columns
    if examples == 1:
        one, two = _example(network, 1), _example(network, 2)
        together = _fitting(columns, 1 + (most - one) // (two - one))
    return Chunk(examples, together, fixed + examples * _example(network, together))


def _fitting(count: int, fits: int) -> int:
    """How many of `count` go together, in equal parts of at most `fits`, or 1."""
    return math.ceil(count / math.ceil(count / max(1, fits)))


def _fixed(network: Network) -> int:
    """Bytes that are held whatever the chunk: two sets of sums, the newest terms, what is squared at once."""
    sizes = [value.numel() for value in network.subject.params.values()]
    itemsize = _itemsize(network)
    return itemsize * (2 * sum(sizes) + max(sizes)) + max(squares.SLICE_BYTES, itemsize * max(sizes))


def _example(network: Network, columns: int) -> int:
    """Bytes that one example holds at its peak, from the shapes in the graph alone.

    Every operator's result, once; for every column the derivatives by the layers' outputs, three times the
    largest result that a backward step passes, the gradients of loose parameters and the output root. Or, if that
    is more, what the squares of one layer take. Without a graph the results are guessed from the inputs.
    """
    subject = network.subject
    if network.graph is None:
        results, passed, kept = subject.inputs[0].numel() * GUESS, subject.inputs[0].numel() * GUESS, 0
    else:
        results = sum(_numel(node) for node in network.graph.nodes)
        passed = max((_numel(node) for node in _moving(network.graph)), default=0)
        kept = sum(_numel(layer.node) for layer in network.layers)
    loose = sum(subject.params[name].numel() for name in network.loose)
    back = results + columns * (network.classes + kept + 3 * passed + 2 * loose)
    squared = results + columns * kept + max((_squares(layer, columns) for layer in network.layers), default=0)
    return _itemsize(network) * max(back, squared)


def _itemsize(network: Network) -> int:
    return next(iter(network.subject.params.values())).element_size()


def _moving(graph: Graph) -> Iterator[fx.Node]:
    """The operators whose result depends on a parameter: through these derivatives pass."""
    seen = set(graph.parameters)
    for node in graph.nodes:
        if not seen.isdisjoint(node.all_input_nodes):
            seen.add(node)
            yield node


def _squares(layer: Layer, columns: int) -> int:
    """Numbers that the squares of one layer hold for an example: its patches, and its slopes once more."""
    kernel, output = layer.kernel.meta["val"], layer.node.meta["val"].numel()
    return int(output // kernel.shape[0] * kernel[0].numel() + columns * output)


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on the device: CUDA's own figure, Linux's MemAvailable; None where neither can tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _numel(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.numel() if isinstance(value, Tensor) else 0
