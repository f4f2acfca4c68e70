"""Permutation: hidden units in another order, and which units may change places."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor, fx

from sharpbench.core.graph import Graph
from sharpbench.errors import InvalidInput
from sharpbench.symmetry.linear_system import merge
from sharpbench.symmetry.rules import propagation
from sharpbench.symmetry.rules.contractions import attention as scaled_attention
from sharpbench.symmetry.rules.contractions import convolved as scaled_convolution
from sharpbench.symmetry.rules.operation import Operation, Result, Rule, alike, each, pinned, shape_of
from sharpbench.symmetry.rules.propagation import GROUND, Axes, IndexArray, ScalePropagation
from sharpbench.symmetry.rules.table import RULES, convolutions, propagate_scales


@dataclass(frozen=True, slots=True, eq=False)
class Permutation:
    """Hidden units in another order: everywhere a unit occurs, its entries change places with another's.

    Of one set of units that may change places: (tensor, axis) -> indices [units, entries of each]. Tensors are
    parameters, and running statistics.
    """

    occurrences: Mapping[tuple[str, int], IndexArray]

    @property
    def units(self) -> int:
        """How many may change places."""
        return len(next(iter(self.occurrences.values())))

    def __call__(self, state: Mapping[str, Tensor], *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` in a random order."""
        return self.ordered(state, torch.randperm(self.units, generator=generator).numpy())

    def tried(self, state: Mapping[str, Tensor], turn: int, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` with every unit moved to the next place, or with the first two exchanged: of these two orders all
        others are made, so that where both leave the function at weights in general position, all do."""
        order = np.arange(self.units)
        return self.ordered(state, np.roll(order, 1) if turn == 0 else np.append(order[1::-1], order[2:]))

    def ordered(self, state: Mapping[str, Tensor], order: IndexArray) -> dict[str, Tensor]:
        """`state` with unit order[i] in the place of unit i. Raises InvalidInput where it lacks one of the tensors."""
        moved = dict(state)
        for (name, axis), indices in self.occurrences.items():
            if name not in moved:
                raise InvalidInput(f"state lacks {name}, in which units change places; give parameters and buffers")
            target = np.arange(moved[name].shape[axis])
            target[indices.ravel()] = indices[order].ravel()
            moved[name] = moved[name].index_select(axis, torch.from_numpy(target).to(moved[name].device))
        return moved


def permutations(graph: Graph, held: Collection[str] = ()) -> Iterator[Permutation]:
    """Sets of units that occur at the same tensors and are cut apart nowhere; tensors in `held` stay as they are.

    The flow of log-scales serves to follow units: with rules under which every operator that treats entries alike
    hands them on, unknowns that any equation holds together are one unit.
    """
    named = {**graph.parameters, **graph.buffers}
    moving = [node for node, name in named.items() if name not in held and node.meta["val"].is_floating_point()]
    flow = propagate_scales(graph, {node: named[node] for node in moving}, Axes(convolutions(graph)), FOLLOWED)
    unit = _units(flow)
    label = np.zeros(unit.max(initial=0) + 2, dtype=np.uint64)
    draw = np.random.default_rng(0)
    for piece in (piece for pieces in flow.cuts for piece in pieces):
        label[np.unique(unit[piece])] += draw.integers(2**63, dtype=np.uint64)
    places = _places(flow, unit)
    alike: dict[tuple[object, ...], list[int]] = {}
    for one, at in places.items():
        pattern = tuple(sorted((place, len(indices)) for place, indices in at.items()))
        alike.setdefault((int(label[one]), pattern), []).append(one)
    for units in alike.values():
        if len(units) > 1:
            yield Permutation({place: np.array([places[one][place] for one in units]) for place in places[units[0]]})


def _units(flow: ScalePropagation) -> IndexArray:
    """The unit of each unknown; -1 where it may not move."""
    merged, left = merge(flow.unknowns, flow.equations)
    _, part = connected_components(abs(left.T) @ abs(left), directed=False)
    unit = np.full(flow.unknowns, -1, dtype=np.int64)
    held = np.diff(merged.indptr) > 0
    unit[held] = part[merged.indices]
    return unit


def _places(flow: ScalePropagation, unit: IndexArray) -> dict[int, dict[tuple[str, int], list[int]]]:
    """Unit that may move -> (tensor, axis) -> its indices there."""
    found: dict[int, dict[tuple[str, int], list[int]]] = {}
    for name, scale in flow.parameters.items():
        for units in (propagation.compact(unit[places]) for _, places in scale):
            axes = [axis for axis, size in enumerate(units.shape) if size > 1]
            for index, one in enumerate(units.ravel().tolist()):
                if len(axes) == 1 and one >= 0:
                    found.setdefault(one, {}).setdefault((name, axes[0]), []).append(index)
    return found


def _together(op: Operation) -> Result:
    """Entry by entry, of one or several tensors: units at the same place are one; single numbers are no matter.

    A tensor that does not move, a mask or a bound, holds the units along each axis on which its entries may differ.
    """
    nodes = {node: op.flow.of(node) for node in op.node.all_input_nodes if node.meta["val"].numel() > 1}
    op.read.update(op.names)
    moving = [scale for scale in nodes.values() if scale]
    result = alike(op, moving) if moving else GROUND
    for node in (node for node, scale in nodes.items() if not scale):
        shape = (1,) * (len(op.shape) - len(shape_of(node))) + shape_of(node)
        axes = [axis for axis, size in enumerate(shape) if size > 1]
        op.flow.vanish(tuple((f, places) for f, places in result if any(places.shape[axis] > 1 for axis in axes)))
    return result


def _sloped(op: Operation) -> Result:
    """prelu: slopes lie along the channels, axis 1, and move with them; a single one is no matter."""
    if op.size("weight") == (1,):
        op.read.add("weight")
        return op.scale("self")
    slopes = each(op.scale("weight"), lambda places: places.reshape(-1, *[1] * (len(op.shape) - 2)))
    return alike(op, [op.scale("self"), slopes])


def _normed(op: Operation) -> Result:
    """Norms over channels, or of each: statistics and affine part move with the input."""
    trailing = op.get("normalized_shape") is not None
    axes = [-1, *[1] * (len(op.shape) - 2)]
    scales = [op.scale("input")]
    for name in ("weight", "bias", "running_mean", "running_var"):
        if isinstance(op.get(name), fx.Node):
            scales.append(each(op.scale(name), lambda places: places if trailing else places.reshape(axes)))
    result = alike(op, scales)
    return result if isinstance(op.node.meta["val"], Tensor) else [result, GROUND, GROUND]


def _attended(op: Operation) -> Result:
    """Units of different heads do not change places."""
    for name in ("query", "key", "value"):
        for _, places in op.scale(name):
            if places.ndim > 2 and places.shape[-3] > 1:
                heads = np.moveaxis(places, -3, 0)
                op.flow.cuts.append([head.ravel() for head in heads])
    return scaled_attention(op)


def _convolved(op: Operation) -> Result:
    """Depthwise: entry by entry along the channels. Otherwise grouped: units stay."""
    groups, weight = op.get("groups"), op.size("weight")
    if groups == 1:
        return scaled_convolution(op)
    if not (groups == weight[0] and weight[1] == 1 and len(op.size("input")) == len(weight)):
        return pinned(op)
    spatial = len(weight) - 2
    scales = [op.flow.constant(op.scale("input"), range(2, 2 + spatial))]
    for name in ("weight", "bias"):
        if isinstance(op.get(name), fx.Node):
            ((factor, places), *_) = op.scale(name) or ((1.0, np.zeros(1, dtype=np.int64)),)
            scales.append(((factor, places.reshape(-1, *[1] * spatial)),))
    return alike(op, scales)


def _table(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    return {name: rule for names, rule in rules.items() for name in names.split()}


FOLLOWED: dict[str, Rule] = {
    **{name: _together if rule is pinned else rule for name, rule in RULES.items()},
    **_table(
        {
            "pow clamp clamp_min clamp_max threshold masked_fill sqrt square where addcmul addcdiv": _together,
            "add sub rsub mul div true_divide maximum minimum _prelu_kernel": _together,
            "prelu": _sloped,
            "argmax argmin topk sort group_norm native_group_norm instance_norm": pinned,
            "batch_norm _native_batch_norm_legit_no_training layer_norm native_layer_norm rms_norm": _normed,
            "conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d": _convolved,
            "scaled_dot_product_attention": _attended,
        }
    ),
}
"""Rules under which units are followed: what treats all entries alike hands them on."""
