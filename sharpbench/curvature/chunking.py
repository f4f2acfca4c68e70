"""Memory: what a pullback holds at once, predicted from the graph, and the chunks that keep it in bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sharpbench.curvature import squared_gradients
from sharpbench.curvature.vjp import LayerwiseNetwork
from sharpbench.environment import free_bytes

CACHE_BYTES = 24 * 2**20
"""On a CPU chunks are kept near this: twice as much gains 7 % of the time of an MLP, half as much costs 16 %."""

FEW, FEW_BYTES = 32, 64 * 2**20
"""The smallest number of examples in a chunk below that size: fewer share too little of an operator's fixed cost."""

MOST_BYTES = 2**30
"""Columns are split where one example with all of them is above this; on a GPU chunks are as large."""


MAX_EXAMPLES = 2048
"""Of one chunk, whose sums over examples are in float32: sums over chunks are in float64."""

SUM_BYTES = 8
"""Of a sum over examples, which is in float64."""

POSITION_FACTOR = 1.5
"""Of a column's bytes where outputs have positions: attention splits and permutes what it passes back. A causal model
of 4 layers took 1.35 times what its layers' outputs predict."""


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """examples, columns: how many go through together. bytes: the predicted peak above the subject."""

    examples: int
    columns: int
    bytes: int

    def halved(self) -> ChunkSize | None:
        """The next smaller chunk, fewer examples first, then fewer columns; None where there is none."""
        if self.examples > 1:
            return ChunkSize(math.ceil(self.examples / 2), self.columns, self.bytes // 2)
        if self.columns > 1:
            return ChunkSize(1, math.ceil(self.columns / 2), self.bytes // 2)
        return None


def choose_chunk(network: LayerwiseNetwork, columns: int) -> ChunkSize:
    """Equal chunks of examples and columns, as large as is fast and as fits into what is free.

    Raises MemoryError, naming both figures, where not even one example and one column fit.
    """
    device = next(iter(network.subject.params.values())).device
    fixed, free = _fixed(network), free_bytes(device)
    least = fixed + _example(network, 1)
    if free is not None and least > free:
        raise MemoryError(
            f"one example takes {least / 2**20:,.0f} MiB and {free / 2**20:,.0f} MiB are free on {device}; "
            "use smaller inputs or a device with more memory"
        )
    most = MOST_BYTES if free is None else min(MOST_BYTES, free - fixed)
    each = _example(network, columns)
    fast = max(CACHE_BYTES, min(FEW_BYTES, FEW * each))
    goal = most if device.type == "cuda" else min(most, fast)
    examples = _fitting(network.subject.n, min(MAX_EXAMPLES, goal // each))
    together = columns
    if examples == 1:
        one, two = _example(network, 1), _example(network, 2)
        together = _fitting(columns, 1 + (most - one) // (two - one))
    return ChunkSize(examples, together, fixed + examples * _example(network, together))


def _fitting(count: int, fits: int) -> int:
    """How many of `count` go together, in equal parts of at most `fits`, or 1."""
    return math.ceil(count / math.ceil(count / max(1, fits)))


def _fixed(network: LayerwiseNetwork) -> int:
    """Bytes that are held whatever the chunk: sums in float64 and the newest terms, what is squared at once, and the
    traces of all examples."""
    sizes = [value.numel() for value in network.subject.params.values()]
    itemsize = _itemsize(network)
    traces = len(sizes) * network.subject.n
    sums = SUM_BYTES * sum(sizes)
    return (
        sums + itemsize * (sum(sizes) + max(sizes) + traces) + max(squared_gradients.SLICE_BYTES, itemsize * max(sizes))
    )


def _example(network: LayerwiseNetwork, columns: int) -> int:
    """Bytes that one example holds at its peak, from only the shapes in the graph.

    Every operator's result, once; for every column the derivatives by the layers' outputs, three times the
    largest result that a backward step passes, the gradients of loose parameters and the output root. Or, if that
    is more, what the squares of one layer take. Without a graph the results are guessed from the inputs.
    """
    sizes = network.sizes
    kept = sum(output for _, output in sizes.layers)
    loose = sum(network.subject.params[name].numel() for name in network.loose)
    factor = POSITION_FACTOR if len(network.outputs) > 1 else 1.0
    column = math.prod(network.outputs) + kept + 3 * sizes.passed + 2 * loose
    back = sizes.results + columns * math.ceil(factor * column)
    squaring = max((patches + columns * output for patches, output in sizes.layers), default=0)
    return _itemsize(network) * max(back, sizes.results + columns * kept + squaring)


def _itemsize(network: LayerwiseNetwork) -> int:
    return next(iter(network.subject.params.values())).element_size()
