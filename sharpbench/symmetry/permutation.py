"""Permutations of hidden units, and the sets of units that may be permuted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor, fx

from sharpbench.core.graph import Graph
from sharpbench.errors import InvalidInput
from sharpbench.symmetry.linear_system import merge_equal_unknowns
from sharpbench.symmetry.rules import propagation
from sharpbench.symmetry.rules.contractions import attention_rule as scaled_attention
from sharpbench.symmetry.rules.contractions import convolution_rule as scaled_convolution
from sharpbench.symmetry.rules.contractions import einsum_rule, matrix_product_rule
from sharpbench.symmetry.rules.operation import (
    Operation,
    Result,
    Rule,
    equate_scales,
    map_indices,
    operator_name,
    pin_rule,
    shape_of,
)
from sharpbench.symmetry.rules.propagation import UNSCALED, Axes, IndexArray, Scale, ScalePropagation
from sharpbench.symmetry.rules.table import RULES, find_convolutions, propagate_scales, rules_by_operator


@dataclass(frozen=True, slots=True, eq=False)
class Permutation:
    """The permutations of one set of hidden units: the entries of a unit move wherever the unit occurs.

    occurrences: (tensor, axis) -> indices [units, entries per unit]; tensors are parameters and running statistics.
    """

    occurrences: Mapping[tuple[str, int], IndexArray]

    @property
    def units(self) -> int:
        """The number of units."""
        return len(next(iter(self.occurrences.values())))

    def __call__(self, state: Mapping[str, Tensor], *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` in a random order."""
        return self.reorder(state, torch.randperm(self.units, generator=generator).numpy())

    def apply_probe(self, state: Mapping[str, Tensor], number: int, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`state` with every unit moved to the next position (number 0), or with the first two exchanged (number 1).

        These two orders generate all others: if both keep the function at weights in general position, all do.
        """
        order = np.arange(self.units)
        return self.reorder(state, np.roll(order, 1) if number == 0 else np.append(order[1::-1], order[2:]))

    def reorder(self, state: Mapping[str, Tensor], order: IndexArray) -> dict[str, Tensor]:
        """`state` with unit order[i] at the position of unit i. Raises InvalidInput where it lacks a tensor."""
        moved = dict(state)
        for (name, axis), indices in self.occurrences.items():
            if name not in moved:
                raise InvalidInput(f"state lacks {name}, in which units are permuted; give parameters and buffers")
            target = np.arange(moved[name].shape[axis])
            target[indices.ravel()] = indices[order].ravel()
            moved[name] = moved[name].index_select(axis, torch.from_numpy(target).to(moved[name].device))
        return moved


def find_permutations(graph: Graph, held: Collection[str] = ()) -> Iterator[Permutation]:
    """Sets of units that occur in the same tensors and are never split; tensors in `held` are not changed.

    Units are followed by the propagation of log-scales, with the rules UNIT_RULES: unknowns that an equation connects
    are one unit.
    """
    flow = _follow_units(graph, held)
    unit = _units_of_unknowns(flow)
    label = np.zeros(unit.max(initial=0) + 2, dtype=np.uint64)
    draw = np.random.default_rng(0)
    for piece in (piece for pieces in flow.cuts for piece in pieces):
        label[np.unique(unit[piece])] += draw.integers(2**63, dtype=np.uint64)
    places = _positions_of_units(flow, unit)
    alike: dict[tuple[object, ...], list[int]] = {}
    for one, at in places.items():
        pattern = tuple(sorted((place, len(indices)) for place, indices in at.items()))
        alike.setdefault((int(label[one]), pattern), []).append(one)
    for units in alike.values():
        if len(units) > 1:
            yield Permutation({place: np.array([places[one][place] for one in units]) for place in places[units[0]]})


def find_summed_units(graph: Graph) -> Iterator[frozenset[tuple[str, int, int]]]:
    """Of each product of two activations over units, as queries and keys: (tensor, axis, index) of all these units.

    Empty where the units must not be permuted.
    """
    flow = _follow_units(graph, _fixed_tables(graph))
    unit = _units_of_unknowns(flow)
    places = _positions_of_units(flow, unit)
    for sides in flow.products:
        queries, keys = ([part for _, part in side if part.shape[-1] > 1] for side in sides)
        if queries and keys and not np.array_equal(queries[0].ravel(), keys[0].ravel()):  # these would be tokens
            held = [places[one] for one in set(unit[queries[0]].ravel().tolist()) & places.keys()]
            yield frozenset((*at, index) for each in held for at, indices in each.items() for index in indices)


def _follow_units(graph: Graph, held: Collection[str]) -> ScalePropagation:
    named = {**graph.parameters, **graph.buffers}
    moving = [node for node, name in named.items() if name not in held and node.meta["val"].is_floating_point()]
    return propagate_scales(graph, {node: named[node] for node in moving}, Axes(find_convolutions(graph)), UNIT_RULES)


def _fixed_tables(graph: Graph) -> set[str]:
    """Buffers, and parameters of which sines and cosines are made without the inputs, as frequencies of rotary
    embeddings: if they moved, queries and keys would have the same units, those of the frequencies."""
    origin: dict[fx.Node, set[str]] = {node: {name} for node, name in graph.parameters.items()}
    varying = set(graph.inputs)
    found = set(graph.buffers.values())
    for node in graph.nodes:
        read = node.all_input_nodes
        if not varying.isdisjoint(read):
            varying.add(node)
            continue
        origin[node] = set().union(*(origin.get(each, ()) for each in read))
        if operator_name(node) in {"sin", "cos"}:
            found |= origin[node]
    return found


def _units_of_unknowns(flow: ScalePropagation) -> IndexArray:
    """The unit of each unknown; -1 for one that must not move."""
    merged, left = merge_equal_unknowns(flow.unknown_count, flow.equations)
    _, part = connected_components(abs(left.T) @ abs(left), directed=False)
    unit = np.full(flow.unknown_count, -1, dtype=np.int64)
    held = np.diff(merged.indptr) > 0
    unit[held] = part[merged.indices]
    return unit


def _positions_of_units(flow: ScalePropagation, unit: IndexArray) -> dict[int, dict[tuple[str, int], list[int]]]:
    """Unit -> (tensor, axis) -> its indices there."""
    found: dict[int, dict[tuple[str, int], list[int]]] = {}
    for name, scale in flow.parameters.items():
        for units in (propagation.compact(unit[places]) for _, places in scale):
            axes = [axis for axis, size in enumerate(units.shape) if size > 1]
            for index, one in enumerate(units.ravel().tolist()):
                if len(axes) == 1 and one >= 0:
                    found.setdefault(one, {}).setdefault((name, axes[0]), []).append(index)
    return found


def _entrywise_rule(op: Operation) -> Result:
    """Entrywise operators: units at the same position are one; single numbers do not matter.

    A tensor that does not move, such as a mask, fixes the units along each axis on which its entries may differ.
    """
    nodes = {node: op.flow.scale_of(node) for node in op.node.all_input_nodes if node.meta["val"].numel() > 1}
    op.read.update(op.names)
    moving = [scale for scale in nodes.values() if scale]
    result = equate_scales(op, moving) if moving else UNSCALED
    for node in (node for node, scale in nodes.items() if not scale):
        shape = (1,) * (len(op.shape) - len(shape_of(node))) + shape_of(node)
        axes = [axis for axis, size in enumerate(shape) if size > 1]
        op.flow.require_zero(tuple((f, places) for f, places in result if any(places.shape[axis] > 1 for axis in axes)))
    return result


def _prelu_rule(op: Operation) -> Result:
    """prelu: slopes lie along the channels, axis 1, and move with them; a single slope does not matter."""
    if op.size("weight") == (1,):
        op.read.add("weight")
        return op.scale("self")
    slopes = map_indices(op.scale("weight"), lambda places: places.reshape(-1, *[1] * (len(op.shape) - 2)))
    return equate_scales(op, [op.scale("self"), slopes])


def _norm_rule(op: Operation) -> Result:
    """Norm layers: statistics and affine parameters move with the input."""
    trailing = op.get("normalized_shape") is not None
    axes = [-1, *[1] * (len(op.shape) - 2)]
    scales = [op.scale("input")]
    for name in ("weight", "bias", "running_mean", "running_var"):
        if isinstance(op.get(name), fx.Node):
            scales.append(map_indices(op.scale(name), lambda places: places if trailing else places.reshape(axes)))
    result = equate_scales(op, scales)
    return result if isinstance(op.node.meta["val"], Tensor) else [result, UNSCALED, UNSCALED]


def _attention_rule(op: Operation) -> Result:
    """Attention: units of different heads are not exchanged."""
    for name in ("query", "key", "value"):
        for _, places in op.scale(name):
            if places.ndim > 2 and places.shape[-3] > 1:
                heads = np.moveaxis(places, -3, 0)
                op.flow.cuts.append([head.ravel() for head in heads])
    return scaled_attention(op)


def _product_rule(one: str = "self", other: str = "other") -> Rule:
    """Batched products: units of different heads are set apart, and heads keep their order."""
    product = matrix_product_rule(one, other)

    def rule(op: Operation) -> Result:
        axes = len(op.shape)
        for name in (one, other):
            _separate(op.flow, map_indices(op.scale(name), lambda places: propagation.lift(places, axes)), axes - 2)
        return product(op)

    return rule


def _separate(flow: ScalePropagation, scale: Scale, batch: int) -> None:
    """Set units apart that lie at different indices of the first `batch` axes; indices of these axes are no units."""
    for factor, places in scale:
        if places.shape[batch:] == (1,) * (places.ndim - batch):
            flow.require_zero(((factor, places),))
        for axis in range(batch):
            if places.shape[axis] > 1:
                flow.cuts.append([part.ravel() for part in np.moveaxis(places, axis, 0)])


def _einsum_rule(op: Operation) -> Result:
    """einsum likewise: indices that every operand and the result have are those of heads and examples."""
    operands, _, result = op.get("equation").replace(" ", "").partition("->")
    words = operands.split(",")
    for word, scale in zip(words, op.scales("tensors"), strict=True):
        shared = [axis for axis, letter in enumerate(word) if all(letter in each for each in (*words, result))]
        order = [*shared, *(axis for axis in range(len(word)) if axis not in shared)]
        moved = tuple((factor, propagation.lift(places, len(word)).transpose(order)) for factor, places in scale)
        _separate(op.flow, moved, len(shared))
    return einsum_rule(op)


def _convolution_rule(op: Operation) -> Result:
    """Depthwise convolutions act entrywise along the channels; other grouped ones fix the units."""
    groups, weight = op.get("groups"), op.size("weight")
    if groups == 1:
        return scaled_convolution(op)
    if not (groups == weight[0] and weight[1] == 1 and len(op.size("input")) == len(weight)):
        return pin_rule(op)
    spatial = len(weight) - 2
    scales = [op.flow.require_constant(op.scale("input"), range(2, 2 + spatial))]
    for name in ("weight", "bias"):
        if isinstance(op.get(name), fx.Node):
            ((factor, places), *_) = op.scale(name) or ((1.0, np.zeros(1, dtype=np.int64)),)
            scales.append(((factor, places.reshape(-1, *[1] * spatial)),))
    return equate_scales(op, scales)


UNIT_RULES: dict[str, Rule] = {
    **{name: _entrywise_rule if rule is pin_rule else rule for name, rule in RULES.items()},
    **rules_by_operator(
        {
            "pow clamp clamp_min clamp_max threshold masked_fill sqrt square where addcmul addcdiv": _entrywise_rule,
            "add sub rsub mul div true_divide maximum minimum _prelu_kernel": _entrywise_rule,
            "prelu": _prelu_rule,
            "argmax argmin topk sort group_norm native_group_norm instance_norm": pin_rule,
            "batch_norm _native_batch_norm_legit_no_training layer_norm native_layer_norm rms_norm": _norm_rule,
            "conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d": _convolution_rule,
            "scaled_dot_product_attention": _attention_rule,
            "matmul": _product_rule(),
            "bmm": _product_rule(other="mat2"),
            "einsum": _einsum_rule,
        }
    ),
}
"""Rules that follow units: an operator that treats all entries alike passes them on."""
