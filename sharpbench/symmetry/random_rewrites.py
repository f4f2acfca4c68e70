"""Random rewrites of the weights that keep the function, to test what a measure depends on.

    layer, unit          random elements of the rescaling groups
    permutation          hidden units in another order
    attention-rotation   queries and keys of each head turned by the same rotation
    attention-gl         random invertible matrices between queries and keys, values and output projection of each head,
                         and two linear layers with nothing between them

Each is found on the captured graph and then verified in float64 at perturbed weights; rewrites that change the function
on these inputs are omitted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sharpbench.core.batch import Inputs
from sharpbench.core.functional import Forward
from sharpbench.core.graph import Graph
from sharpbench.core.measure import REWRITE_KINDS, RewriteKind
from sharpbench.errors import InvalidInput
from sharpbench.symmetry.float64_check import Float64Check
from sharpbench.symmetry.free_parameters import find_overlapping, free_parameters
from sharpbench.symmetry.group import SCOPES, RescalingGroup, Scope, graph_of, group_of
from sharpbench.symmetry.linear_blocks import candidate_blocks, verified_blocks
from sharpbench.symmetry.permutation import find_permutations
from sharpbench.symmetry.rules.propagation import Axes, IndexArray, Scale
from sharpbench.symmetry.rules.table import find_convolutions, propagate_scales


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """Random rotations of the query-key space of each head of one attention, which keep the products.

    query, key: (weight, rows [heads, width]); biases: weight -> bias.
    """

    query: tuple[str, IndexArray]
    key: tuple[str, IndexArray]
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

    def apply_probe(self, state: Mapping[str, Tensor], number: int, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` under a random rotation: a rewrite that keeps the function there always does."""
        return self(state, generator=generator)


def find_rotations(graph: Graph, parameters: Collection[str]) -> Iterator[Rotation]:
    """The Rotation of every product of two activations over an axis whose entries are rows of two `parameters`."""
    names = {node: name for node, name in graph.parameters.items() if name in parameters}
    flow = propagate_scales(graph, names, Axes(find_convolutions(graph)))
    owner = np.full(flow.unknown_count, -1, dtype=np.int64)
    row = np.zeros(flow.unknown_count, dtype=np.int64)
    listed = list(flow.parameters)
    for index, name in enumerate(listed):
        places = flow.parameters[name][0][1]
        if places.ndim == 2:
            owner[places.ravel()], row[places.ravel()] = index, np.arange(places.size)

    def rows(side: Scale) -> tuple[str, IndexArray] | None:
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


State = Mapping[str, Tensor]
MAX_CHANGE = 1e-9
"""The largest relative change of the outputs, in float64, that counts as rounding."""
PROBES = 2
"""Instances of a rewrite that are verified: of permutations, the two that generate all others."""


class Rewrite(Protocol):
    """One set of units that may be permuted, the heads of one attention, or a group."""

    def __call__(self, state: State, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` rewritten at random."""

    def apply_probe(self, state: State, number: int, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` under probe `number`: if all PROBES keep the function, every instance of the rewrite does."""


@dataclass(frozen=True, slots=True, eq=False)
class Rescaling:
    """A random element of a rescaling group; log-scales of single potentials are of the size of `spread`."""

    group: RescalingGroup
    spread: float = 1.0

    def __call__(self, state: State, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` rescaled."""
        return self.group.apply(state, self.group.random_element(generator, spread=self.spread))

    def apply_probe(self, state: State, number: int, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` under a random element: a rewrite that keeps the function there always does."""
        return self(state, generator=generator)


@dataclass(frozen=True, slots=True, eq=False)
class Rewrites:
    """Rewrites of one kind, applied one after the other; with none, everything is unchanged.

    tied: every name of a tensor -> the first one, under which the parts list it.
    """

    kind: RewriteKind
    parts: Sequence[Rewrite]
    tied: Mapping[str, str]

    @property
    def trivial(self) -> bool:
        """Whether the network has no rewrite of this kind."""
        return not any(not isinstance(part, Rescaling) or part.group.dimension for part in self.parts)

    def __call__(self, state: State, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state`, parameters and buffers by name, rewritten at random, with the same keys, dtypes and devices.

        All names of a tied parameter get the same tensor.
        """
        moved = {self.tied.get(name, name): value for name, value in state.items()}
        for part in self.parts:
            moved = part(moved, generator=generator)
        return {name: moved[self.tied.get(name, name)] for name in state}


def find_rewrites(
    model: nn.Module,
    inputs: Inputs,
    kind: RewriteKind,
    *,
    generator: torch.Generator,
    parameters: Collection[str] | None = None,
    forward: Forward | None = None,
) -> Rewrites:
    """Random rewrites of one kind that keep the function of `model`, for inputs [B, ...].

    Permutations move everything that a unit has, including frozen parameters and running statistics. Tensors that share
    memory, unless they are one parameter under several names, are unchanged.

    Args:
        kind: 'layer', 'unit', 'permutation', 'attention-rotation' or 'attention-gl'.
        generator: the only source of randomness.
        parameters: the names that may be rescaled and rotated; None for all that require gradients.
        forward: how the model is called, as in `Subject.from_module`.
    Raises:
        InvalidInput: as `rescaling_group`, and where the network does not run in float64 or does not return one tensor.

    Cost: a capture of the graph, and evaluations of `inputs`: 2 log2(n) + 2 for n sets of units or heads, or 2 n more
    if those together change the function.

    >>> found = symmetry.find_rewrites(model, inputs, "permutation", generator=draws)
    >>> found.trivial
    False
    """
    if kind not in REWRITE_KINDS:
        raise InvalidInput(f"kind='{kind}' is not a kind of rewrite; use one of {', '.join(REWRITE_KINDS)}")
    graph = graph_of(model, inputs, forward)
    trial = Float64Check.of(model, inputs, generator=generator, forward=forward)
    free = free_parameters(model, graph, parameters)
    scope: Scope | None = next((scope for scope in SCOPES if scope == kind), None)
    found: list[Rewrite]
    if scope is not None:
        found = [Rescaling(group_of(graph, free, scope=scope))]
    elif kind == "permutation":
        found = list(find_permutations(graph, find_overlapping(model)))
    elif kind == "attention-gl":
        found = list(verified_blocks(list(candidate_blocks(graph, free, find_overlapping(model))), trial, generator))
    else:
        found = list(find_rotations(graph, free))
    if not _keep_function(found, trial, generator):
        found = [part for part in found if _keep_function([part], trial, generator)]
    return Rewrites(kind, found, graph.tied)


def _keep_function(parts: Sequence[Rewrite], trial: Float64Check, generator: torch.Generator) -> bool:
    """Whether all these rewrites keep the function.

    Each test applies the rewrites whose number has a 1 at one binary digit. So each rewrite is applied in some test,
    and of any two, one is applied without the other: no two can compensate each other.
    """
    for digit in range(len(parts).bit_length()):
        some = [part for number, part in enumerate(parts, start=1) if number >> digit & 1]
        for number in range(PROBES):
            moved = dict(trial.state)
            for part in some:
                moved = part.apply_probe(moved, number, generator=generator)
            if trial.change(moved) > MAX_CHANGE:
                return False
    return True
