"""Contractions: rules of products that are summed over an axis: linear, convolution, attention."""

from __future__ import annotations

import numpy as np
from torch import fx

from sharpbench.symmetry.rules import propagation
from sharpbench.symmetry.rules.operation import Operation, Result, Rule, alike, each, packet_of, pinned
from sharpbench.symmetry.rules.propagation import IndexArray, Scale, ScalePropagation, times


def contracted(flow: ScalePropagation, data: Scale, weight: Scale, node: object = None) -> Scale:
    """The sum over the last axis of data times weight: all products along it alike; the axis stays, of size 1.

    A weight that is met for the first time is free in how it splits its scale between rows and columns: columns
    take up the scale of the data, and rows are the result's.
    """
    axes = max((places.ndim for _, places in (*data, *weight)), default=1)
    data, weight = (each(scale, lambda places: propagation.lift(places, axes)) for scale in (data, weight))
    name = flow.names.get(node, "") if isinstance(node, fx.Node) else ""
    if name in flow.loose and len(weight) == 2:
        for rows, columns in (weight, weight[::-1]):
            inner, outer = columns[1], rows[1]
            fits = all(n in (1, m) for _, places in data for n, m in zip(places.shape, inner.shape, strict=True))
            if outer.shape[-1] == 1 and inner.shape[-2] == 1 and fits:
                del flow.loose[name]
                flow.equal((columns,), times(-1.0, data))
                flow.outputs.append(outer)
                return (rows,)
    flow.products.append((data, weight))
    first = flow.constant((*data, *weight), [axes - 1])
    return flow.sum(first)


def linear(op: Operation) -> Result:
    """x W^T + b."""
    if len(op.size("weight")) != 2:
        return pinned(op)
    data = each(op.scale("input"), lambda places: places[..., None, :])
    scale = contracted(op.flow, data, op.scale("weight"), op.get("weight"))
    weight, bias = (op.flow.names.get(op.get(name)) for name in ("weight", "bias"))
    if weight and bias:
        op.flow.biases[weight] = bias
    return _biased(op, each(scale, lambda places: places[..., 0]), "bias")


def _biased(op: Operation, scale: Scale, name: str, axis: int = -1) -> Scale:
    if not isinstance(op.get(name), fx.Node):
        return scale
    bias = op.scale(name)
    if axis != -1:
        bias = each(bias, lambda places: places.reshape(-1, *[1] * (len(op.shape) - axis - 1)))
    return alike(op, [scale, bias])


def convolved(op: Operation) -> Result:
    """Convolutions, by group: [groups, outputs, inputs]; kernel and image positions alike."""
    flow, groups = op.flow, op.get("groups")
    transposed = bool(op.get("transposed")) or "transpose" in packet_of(op.node)
    spatial = len(op.size("weight")) - 2
    lead = len(op.shape) - spatial - 1  # the channels' axis: 1, or 0 without a batch
    positions = range(lead + 1, lead + 1 + spatial)
    data = flow.constant(op.scale("input"), [*range(lead), *positions])
    weight = flow.constant(op.scale("weight"), range(2, 2 + spatial))

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

    scale = contracted(flow, each(data, inputs), each(weight, kernels), op.get("weight"))
    return _biased(op, each(scale, outputs), "bias", axis=lead)


def matrix_product(one: str = "self", other: str = "other", plus: str | None = None) -> Rule:
    """A B over the last axis of A and the last but one of B, and what is added to it."""

    def rule(op: Operation) -> Result:
        if min(len(op.size(one)), len(op.size(other))) < 2:
            return pinned(op)
        left = each(op.scale(one), lambda places: places[..., :, None, :])
        right = each(op.scale(other), lambda places: np.swapaxes(places, -1, -2)[..., None, :, :])
        scale = each(contracted(op.flow, left, right, op.get(other)), lambda places: places[..., 0])
        return alike(op, [scale, op.scale(plus)]) if plus else scale

    return rule


def summed_product(op: Operation) -> Result:
    """einsum: log-scales add, alike along every index that is summed over."""
    operands, _, result = op.get("equation").replace(" ", "").partition("->")
    words = operands.split(",")
    if "." in operands or not result.isalpha() or any(len(set(word)) < len(word) for word in [*words, result]):
        return pinned(op)
    summed = sorted(set(operands) - set(result) - {","})
    letters = [*result, *summed]

    def placed(places: IndexArray, word: str) -> IndexArray:
        order = sorted(range(len(word)), key=lambda axis: letters.index(word[axis]))
        sizes = {letter: places.shape[axis] for axis, letter in enumerate(word)}
        return places.transpose(order).reshape([sizes.get(letter, 1) for letter in letters])

    terms = [
        (factor, placed(places, word))
        for word, scale in zip(words, op.scales("tensors"), strict=True)
        for factor, places in scale
    ]
    kept = op.flow.constant(tuple(terms), range(len(result), len(letters)))
    return op.flow.sum(each(kept, lambda places: places.reshape(places.shape[: len(result)])))


def attention(op: Operation) -> Result:
    """softmax(Q K^T) V: query against key at every index that they are summed over; the values' is the result's."""
    query, key, value = (op.scale(name) for name in ("query", "key", "value"))
    if op.size("query")[:-2] != op.size("key")[:-2] or op.size("key")[:-2] != op.size("value")[:-2]:
        return pinned(op)
    left = each(query, lambda places: places[..., :, None, :])
    right = each(key, lambda places: places[..., None, :, :])
    op.flow.products.append((left, right))
    op.flow.vanish((*left, *right))
    return op.flow.constant(value, [len(op.shape) - 2])


def embedded(op: Operation) -> Result:
    """A table's rows, whichever are looked up: alike."""
    return each(op.flow.constant(op.scale("weight"), [0]), lambda places: propagation.lift(places, len(op.shape)))
