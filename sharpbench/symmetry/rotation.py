"""Rotation: queries and keys of attention heads, turned by the same rotation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sharpbench.core.graph import Graph
from sharpbench.errors import InvalidInput
from sharpbench.symmetry.flow import Axes, Scale
from sharpbench.symmetry.layout import Places
from sharpbench.symmetry.rules import convolutions, flow_of


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """Queries and keys of each head turned by a random rotation of their space, which leaves their products.

    query, key: (weight, rows [heads, width]); biases: weight -> bias.
    """

    query: tuple[str, Places]
    key: tuple[str, Places]
    biases: Mapping[str, str]

    def __call__(self, state: Mapping[str, Tensor], *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` rotated. Raises InvalidInput where it lacks one of the tensors."""
        moved = dict(state)
        for query, key in zip(self.query[1], self.key[1], strict=True):
            drawn = torch.randn(len(query), len(query), generator=generator, dtype=torch.float64)
            turn = torch.linalg.qr(drawn)[0]
            for weight, rows in ((self.query[0], query), (self.key[0], key)):
                for name in (weight, *([self.biases[weight]] if weight in self.biases else ())):
                    if name not in moved:
                        raise InvalidInput(f"state lacks {name}, in which heads are rotated; give all parameters")
                    value = moved[name].clone()
                    value[rows] = turn.to(value) @ value[rows]
                    moved[name] = value
        return moved

    def tried(self, state: Mapping[str, Tensor], turn: int, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` under a random rotation: at all of them the function stays if it does there."""
        return self(state, generator=generator)


def rotations(graph: Graph, parameters: Collection[str]) -> Iterator[Rotation]:
    """Products of two activations over an axis whose entries are rows of two weights, both among `parameters`."""
    names = {node: name for node, name in graph.parameters.items() if name in parameters}
    flow = flow_of(graph, names, Axes(convolutions(graph)))
    owner = np.full(flow.unknowns, -1, dtype=np.int64)
    row = np.zeros(flow.unknowns, dtype=np.int64)
    listed = list(flow.parameters)
    for index, name in enumerate(listed):
        places = flow.parameters[name][0][1]
        if places.ndim == 2:
            owner[places.ravel()], row[places.ravel()] = index, np.arange(places.size)

    def rows(side: Scale) -> tuple[str, Places] | None:
        if len(side) != 1 or side[0][0] != 1.0 or side[0][1].ndim < 3 or max(side[0][1].shape[-3:-1]) > 1:
            return None
        places = side[0][1].reshape(-1, side[0][1].shape[-1])
        held = np.unique(owner[places])
        distinct = len(np.unique(places)) == places.size
        return (listed[held[0]], row[places]) if len(held) == 1 and held[0] >= 0 and distinct else None

    for left, right in flow.products:
        query, key = rows(left), rows(right)
        if query is not None and key is not None and query[1].shape == key[1].shape and query[1].shape[1] > 1:
            yield Rotation(query, key, flow.biases)
