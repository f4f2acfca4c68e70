"""Rules of contractions, products that are summed over an axis: linear layers, convolutions, attention."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from sharpbench.symmetry.rules import propagation
from sharpbench.symmetry.rules.operation import (
    Operation,
    Result,
    Rule,
    equate_scales,
    map_indices,
    operator_name,
    pin_rule,
)
from sharpbench.symmetry.rules.propagation import IndexArray, Scale, ScalePropagation, multiply_scale


def contract_scales(flow: ScalePropagation, data: Scale, weight: Scale, node: Any = None) -> Scale:
    """The scale of the sum over the last axis of data times weight: all products along it have equal scales.

    The axis stays, with size 1. A weight that occurs for the first time may split its scale freely between rows and
    columns: then its columns cancel the scale of the data, and its rows give the scale of the result.
    """
    axes = max((places.ndim for _, places in (*data, *weight)), default=1)
    data, weight = (map_indices(scale, lambda places: propagation.lift(places, axes)) for scale in (data, weight))
    if flow.units:
        if node not in flow.names:
            flow.products.append((data, weight))
        return flow.merge_terms(flow.pair_units((*data, *weight), [axes - 1]))
    name = flow.names.get(node, "") if isinstance(node, fx.Node) else ""
    if name in flow.loose and len(weight) == 2:
        for rows, columns in (weight, weight[::-1]):
            inner, outer = columns[1], rows[1]
            fits = all(n in (1, m) for _, places in data for n, m in zip(places.shape, inner.shape, strict=True))
            if outer.shape[-1] == 1 and inner.shape[-2] == 1 and fits:
                del flow.loose[name]
                flow.require_equal((columns,), multiply_scale(-1.0, data))
                flow.outputs.append(outer)
                return (rows,)
    flow.products.append((data, weight))
    first = flow.require_constant((*data, *weight), [axes - 1])
    return flow.merge_terms(first)


def linear_rule(op: Operation) -> Result:
    """x W^T + b."""
    if len(op.size("weight")) != 2:
        return pin_rule(op)
    data = map_indices(op.scale("input"), lambda places: places[..., None, :])
    scale = contract_scales(op.flow, data, op.scale("weight"), op.get("weight"))
    weight, bias = (op.flow.names.get(op.get(name)) for name in ("weight", "bias"))
    if weight and bias:
        op.flow.biases[weight] = bias
    return _add_bias(op, map_indices(scale, lambda places: places[..., 0]), "bias")


def _add_bias(op: Operation, scale: Scale, name: str, axis: int = -1) -> Scale:
    if not isinstance(op.get(name), fx.Node):
        return scale
    bias = op.scale(name)
    if axis != -1:
        bias = map_indices(bias, lambda places: places.reshape(-1, *[1] * (len(op.shape) - axis - 1)))
    if op.flow.units:  # a bias is the same for all tokens and examples, and does not tell them apart
        along = tuple(term for term in scale if term[1].shape[axis] > 1)
        return (*equate_scales(op, [along, bias]), *(term for term in scale if term[1].shape[axis] == 1))
    return equate_scales(op, [scale, bias])


def convolution_rule(op: Operation) -> Result:
    """Convolutions, by group: [groups, outputs, inputs]; kernel and image positions alike."""
    flow, groups = op.flow, op.get("groups")
    transposed = bool(op.get("transposed")) or "transpose" in operator_name(op.node)
    spatial = len(op.size("weight")) - 2
    lead = len(op.shape) - spatial - 1  # the channels' axis: 1, or 0 without a batch
    positions = range(lead + 1, lead + 1 + spatial)
    data = flow.require_constant(op.scale("input"), [*range(lead), *positions])
    weight = flow.require_constant(op.scale("weight"), range(2, 2 + spatial))

    def inputs(places: IndexArray) -> IndexArray:
        channels = op.size("input")[lead]
        return propagation.reshape(places.reshape(-1), (channels,), (groups, 1, channels // groups))

    def kernels(places: IndexArray) -> IndexArray:
        rows, columns = op.size("weight")[:2]
        split = propagation.reshape(
            places.reshape(places.shape[:2]), (rows, columns), (groups, rows // groups, columns)
        )
        return split.transpose(0, 2, 1) if transposed else split

    def outputs(places: IndexArray) -> IndexArray:
        outs = op.shape[lead]
        flat = propagation.reshape(places, (groups, outs // groups, 1), (outs,))
        return flat.reshape(*[1] * lead, -1, *[1] * spatial)

    scale = contract_scales(flow, map_indices(data, inputs), map_indices(weight, kernels), op.get("weight"))
    return _add_bias(op, map_indices(scale, outputs), "bias", axis=lead)


def matrix_product_rule(one: str = "self", other: str = "other", plus: str | None = None) -> Rule:
    """The rule of A B, over the last axis of A and the last but one of B, plus an added tensor."""

    def rule(op: Operation) -> Result:
        if min(len(op.size(one)), len(op.size(other))) < 2:
            return pin_rule(op)
        left = map_indices(op.scale(one), lambda places: places[..., :, None, :])
        right = map_indices(op.scale(other), lambda places: np.swapaxes(places, -1, -2)[..., None, :, :])
        scale = map_indices(contract_scales(op.flow, left, right, op.get(other)), lambda places: places[..., 0])
        return equate_scales(op, [scale, op.scale(plus)]) if plus else scale

    return rule


def einsum_rule(op: Operation) -> Result:
    """einsum: log-scales add, and are constant along every index that is summed over."""
    operands, _, result = op.get("equation").replace(" ", "").partition("->")
    words = operands.split(",")
    if "." in operands or not result.isalpha() or any(len(set(word)) < len(word) for word in [*words, result]):
        return pin_rule(op)
    summed = sorted(set(operands) - set(result) - {","})
    letters = [*result, *summed]

    def placed(places: IndexArray, word: str) -> IndexArray:
        order = sorted(range(len(word)), key=lambda axis: letters.index(word[axis]))
        sizes = {letter: places.shape[axis] for axis, letter in enumerate(word)}
        return places.transpose(order).reshape([sizes.get(letter, 1) for letter in letters])

    terms = tuple(
        (factor, placed(places, word))
        for word, scale in zip(words, op.scales("tensors"), strict=True)
        for factor, places in scale
    )
    axes = range(len(result), len(letters))
    kept = op.flow.pair_units(terms, axes) if op.flow.units else op.flow.require_constant(terms, axes)
    return op.flow.merge_terms(map_indices(kept, lambda places: places.reshape(places.shape[: len(result)])))


def _repeat_heads(scale: Scale, size: tuple[int, ...], target: tuple[int, ...]) -> Scale:
    """The scale of keys or values of which each head, the last axis of `size`, serves several heads of the queries."""

    def repeat(places: IndexArray) -> IndexArray:
        wide = propagation.lift(places, len(size) + 2)
        return wide.repeat(target[-1] // size[-1], -3) if wide.shape[-3] > 1 else wide

    return map_indices(scale, repeat)


def attention_rule(op: Operation) -> Result:
    """softmax(Q K^T) V: query and key cancel at every index that is summed over; the result has the values' scale."""
    query, key, value = (op.scale(name) for name in ("query", "key", "value"))
    sizes = [op.size(name)[:-2] for name in ("query", "key", "value")]
    if op.get("enable_gqa"):
        key, value = (_repeat_heads(scale, size, sizes[0]) for scale, size in zip((key, value), sizes[1:], strict=True))
    elif sizes[0] != sizes[1] or sizes[1] != sizes[2]:
        return pin_rule(op)
    left = map_indices(query, lambda places: places[..., :, None, :])
    right = map_indices(key, lambda places: places[..., None, :, :])
    op.flow.products.append((left, right))
    op.flow.require_zero((*left, *right))
    return op.flow.require_constant(value, [len(op.shape) - 2])


def embedding_rule(op: Operation) -> Result:
    """embedding: all rows of the table have equal scales, since any may be looked up."""
    return map_indices(
        op.flow.require_constant(op.scale("weight"), [0]), lambda places: propagation.lift(places, len(op.shape))
    )
