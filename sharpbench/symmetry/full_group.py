"""The full linear symmetry of a network: scales of its units, and the invertible matrices of its linear blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sharpbench.core.batch import Inputs
from sharpbench.core.functional import Forward
from sharpbench.core.graph import Graph
from sharpbench.symmetry.float64_check import Float64Check
from sharpbench.symmetry.free_parameters import find_overlapping, free_parameters
from sharpbench.symmetry.group import RescalingGroup, graph_of, group_of
from sharpbench.symmetry.linear_blocks import LinearBlock, candidate_blocks, verified_blocks
from sharpbench.symmetry.permutation import find_summed_units


@dataclass(frozen=True, slots=True, eq=False)
class FullGroup:
    """The rescalings of single units together with GL(h) of every block of h units that are mixed only linearly.

    units: the rescaling group of units. blocks: verified in float64. restricted: attention layers whose queries and
    keys are in no block: rotary embeddings leave them one complex number per frequency, norms leave scales at most.
    """

    units: RescalingGroup
    blocks: tuple[LinearBlock, ...]
    restricted: int

    @property
    def dimension(self) -> int:
        """The number of independent parameters: those of the scales, and h^2 - h more for each block."""
        return self.units.dimension + sum(block.dimension - block.units for block in self.blocks)

    @property
    def words(self) -> str:
        """'24 x GL(32)': the blocks, counted by their size."""
        counts = Counter(block.units for block in self.blocks)
        return ", ".join(f"{count} x GL({units})" for units, count in sorted(counts.items()))

    def random_move(self, state: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """`state` under a random element: scales of size 1, and in each block a matrix of condition at most exp(4)."""
        moved = self.units.apply(state, self.units.random_element(generator))
        for block in self.blocks:
            moved = block(moved, generator=generator)
        return moved


def full_group(
    model: nn.Module,
    inputs: Inputs,
    *,
    generator: torch.Generator,
    parameters: Collection[str] | None = None,
    forward: Forward | None = None,
) -> FullGroup:
    """The FullGroup of `model` in eval mode, for inputs [B, ...] of this shape.

    Blocks are found on the graph, as sets of units that may be permuted and scaled against each other, and kept where a
    random matrix keeps the outputs for these inputs, in float64 at perturbed weights.

    Args:
        generator: the only source of randomness.
        parameters: the names of those that may be changed; None for all that require gradients.
        forward: how the model is called, as in `Subject.from_module`.
    Raises:
        InvalidInput: as `rescaling_group`, and where the network does not run in float64.

    Cost: that of `rescaling_group`, and two evaluations in float64, with more where a candidate is not a block.

    >>> linear = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 4)).double()
    >>> found = symmetry.full_group(linear, inputs, generator=draws)
    >>> found.words, found.dimension
    ('1 x GL(2)', 4)
    """
    graph = graph_of(model, inputs, forward)
    check = Float64Check.of(model, inputs, generator=generator, forward=forward)
    return full_group_of(graph, free_parameters(model, graph, parameters), check, generator)


def full_group_of(
    graph: Graph, parameters: Collection[str], check: Float64Check, generator: torch.Generator
) -> FullGroup:
    """The FullGroup read off a captured graph; `check` holds the network.

    >>> subject = Subject.from_module(model, inputs, targets)
    >>> check = symmetry.Float64Check.of(model, inputs, generator=draws)
    >>> symmetry.full_group_of(subject.graph, set(subject.params), check, draws).dimension  # scales only
    4
    """
    found = candidate_blocks(graph, parameters, find_overlapping(check.model))
    blocks = verified_blocks(list(found), check, generator)
    mixed = {
        (each.parameter, each.axis, int(at))
        for block in blocks
        for each in block.occurrences
        for at in each.indices.flat
    }
    restricted = sum(mixed.isdisjoint(units) for units in find_summed_units(graph))
    return FullGroup(group_of(graph, parameters, scope="unit"), blocks, restricted)
