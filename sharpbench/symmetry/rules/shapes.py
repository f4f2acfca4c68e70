"""Rules of operators that move entries, split tensors or join them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sharpbench.symmetry.rules import propagation
from sharpbench.symmetry.rules.operation import Operation, Result, map_indices, operator_name, pin_rule, shape_of
from sharpbench.symmetry.rules.propagation import IndexArray, Scale
from sharpbench.symmetry.rules.reductions import uniform_rule, window_rule


def reshape_rule(op: Operation) -> Result:
    """view, flatten, squeeze, unsqueeze: the entries keep their order."""
    if op.get("dtype") is not None:
        return pin_rule(op)  # bits under another name
    before, after = op.size(op.first), op.shape
    return op.flow.merge_terms(
        map_indices(op.scale(op.first), lambda places: propagation.reshape(places, before, after))
    )


def expand_rule(op: Operation) -> Result:
    """expand: axes in front, and copies along axes of size 1."""
    return map_indices(op.scale(op.first), lambda places: propagation.lift(places, len(op.shape)))


def permute_rule(op: Operation) -> Result:
    """permute, by `dims`; transpose, by two axes; t."""
    order = list(range(len(op.shape)))
    if op.get("dims") is not None:
        order = op.axes("dims")
    elif order[1:]:
        one, other = op.axes("dim0")[0], op.axes("dim1")[0]
        if op.get("dim0") is None:
            one, other = 0, 1
        order[one], order[other] = order[other], order[one]
    return map_indices(op.scale(op.first), lambda places: places.transpose(order))


def slice_rule(op: Operation) -> Result:
    """slice and narrow: a run of indices of one axis."""
    (axis,) = op.axes()
    size = op.size(op.first)[axis]
    start, length = op.get("start") or 0, op.get("length")
    if length is None:
        return _pieces(op, axis, [np.arange(size)[start : op.get("end") : op.get("step") or 1]])[0]
    return _pieces(op, axis, [start % size + np.arange(length)])[0]  # start may count from the end


def split_rule(op: Operation) -> Result:
    """split, chunk: runs of indices of one axis; the shapes of the results give their lengths."""
    (axis,) = op.axes()
    lengths = [value.shape[axis] for value in op.node.meta["val"]]
    return _pieces(op, axis, np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1]))


def select_rule(op: Operation) -> Result:
    """select: one index of one axis, which is removed."""
    (axis,) = op.axes()
    (piece,) = _pieces(op, axis, [np.array([op.get("index")])])
    return map_indices(piece, lambda places: places.squeeze(axis))


def unbind_rule(op: Operation) -> Result:
    """unbind: every index of one axis, which is removed."""
    (axis,) = op.axes()
    pieces = _pieces(op, axis, [np.array([index]) for index in range(op.size(op.first)[axis])])
    return [map_indices(piece, lambda places: places.squeeze(axis)) for piece in pieces]


def _pieces(op: Operation, axis: int, indices: Sequence[Any]) -> list[Scale]:
    """The scale at these runs of indices of an axis; the propagation records a cut where it varies along the axis."""

    def piece(places: IndexArray, run: Any) -> IndexArray:
        return places if places.shape[axis] == 1 else propagation.compact(places.take(run, axis))

    scale = op.scale(op.first)
    pieces = [tuple((factor, piece(places, run)) for factor, places in scale) for run in indices]
    if any(places.shape[axis] > 1 for _, places in scale):
        op.flow.cuts.append([np.concatenate([places.ravel() for _, places in each]) for each in pieces])
    return pieces


def cat_rule(op: Operation) -> Result:
    """cat: tensors one after the other along an axis."""
    axis = (op.get("dim") or 0) % len(op.shape)
    sized = zip(map(shape_of, op.get("tensors")), op.scales("tensors"), strict=True)
    parts = [
        (shape[axis], op.flow.as_unknowns(scale, len(shape))) for shape, scale in sized if len(shape) == len(op.shape)
    ]
    return ((1.0, propagation.concatenate([places for _, places in parts], [size for size, _ in parts], axis)),)


def stack_rule(op: Operation) -> Result:
    """stack: tensors one after the other along a new axis."""
    axis = (op.get("dim") or 0) % len(op.shape)
    places = [np.expand_dims(op.flow.as_unknowns(scale, len(op.shape) - 1), axis) for scale in op.scales("tensors")]
    return ((1.0, propagation.concatenate(places, [1] * len(places), axis)),)


def roll_rule(op: Operation) -> Result:
    """roll and flip: the same indices in another order."""
    axes = [axis % len(op.shape) for axis in op.get("dims")]  # no axis where none is named
    shifts = op.get("shifts")

    def moved(places: IndexArray) -> IndexArray:
        return np.flip(places, tuple(axes)) if shifts is None else np.roll(places, tuple(shifts), axes)

    return map_indices(op.scale(op.first), moved) if axes or shifts is None else uniform_rule(op)


def pad_rule(op: Operation) -> Result:
    """pad: zeros may have any scale; other modes repeat entries along the last axes."""
    widths, axes = list(op.get("pad") or op.get("padding")), len(op.shape)
    padding = [(0, 0)] * (axes - len(widths) // 2) + list(zip(widths[::2], widths[1::2], strict=True))[::-1]
    mode = op.get("mode") or ("constant" if operator_name(op.node) == "constant_pad_nd" else "other")
    if mode == "constant" and (op.get("value") or 0) not in (0, -math.inf):
        return pin_rule(op)
    if mode != "constant":
        return window_rule(len(widths) // 2)(op)

    def around(places: IndexArray) -> IndexArray:
        for axis, (before, after) in enumerate(padding):
            if places.shape[axis] > 1:
                run = places.take(range(max(0, -before), places.shape[axis] - max(0, -after)), axis)
                sizes = [max(0, before), run.shape[axis], max(0, after)]
                rims = [op.flow.new_unknowns([n if at == axis else 1 for at in range(axes)]) for n in sizes]
                parts = [(part, n) for part, n in zip((rims[0], run, rims[2]), sizes, strict=True) if n]
                places = propagation.concatenate([part for part, _ in parts], [n for _, n in parts], axis)
        return places

    return map_indices(op.scale(op.first), around)


def repeat_rule(op: Operation) -> Result:
    """repeat: copies one after the other along each axis."""

    def copies(places: IndexArray) -> IndexArray:
        wide = propagation.lift(places, len(op.shape))
        return np.tile(wide, [n if size > 1 else 1 for n, size in zip(op.get("repeats"), wide.shape, strict=True)])

    return map_indices(op.scale(op.first), copies)


def repeat_interleave_rule(op: Operation) -> Result:
    """repeat_interleave: every index of one axis `repeats` times."""
    count, axis = op.get("repeats"), op.get("dim")
    if not isinstance(count, int) or axis is None:
        return uniform_rule(op)
    return map_indices(op.scale("self"), lambda p: p.repeat(count, axis) if p.shape[axis] > 1 else p)


def index_rule(op: Operation) -> Result:
    """x[i, :, j]: the scale is constant along axes that are indexed by tensors, since these may name any entry."""
    indices = list(op.get("indices"))
    if any(index is not None and index.meta["val"].dtype == torch.bool for index in indices):
        return pin_rule(op)
    at = [axis for axis, index in enumerate(indices) if index is not None]
    scale = op.flow.require_constant(op.scale("self"), at)
    rest = [axis for axis in range(len(op.size("self"))) if axis not in at]
    new = len(op.shape) - len(rest)
    front = at[0] if at == list(range(at[0], at[-1] + 1)) else 0

    def arranged(places: IndexArray) -> IndexArray:
        kept = [places.shape[axis] for axis in rest]
        return places.reshape([*kept[:front], *[1] * new, *kept[front:]])

    return map_indices(scale, arranged)


def pixel_shuffle_rule(op: Operation) -> Result:
    """pixel_shuffle and pixel_unshuffle: channels into positions and back."""
    factor = op.get("upscale_factor")
    lead = len(op.shape) - 3
    first, last = op.size("self"), op.shape

    def into(places: IndexArray) -> IndexArray:
        channels, height, width = last[lead:][0], *first[lead + 1 :]
        split = (*first[:lead], channels, factor, factor, height, width)
        order = [*range(lead), *(lead + axis for axis in (0, 3, 1, 4, 2))]
        moved = tuple(split[axis] for axis in order)
        return propagation.reshape(propagation.reshape(places, first, split).transpose(order), moved, last)

    def back(places: IndexArray) -> IndexArray:
        down = op.get("downscale_factor")
        split = (*first[: lead + 1], last[-2], down, last[-1], down)
        order = [*range(lead), *(lead + axis for axis in (0, 2, 4, 1, 3))]
        moved = tuple(split[axis] for axis in order)
        return propagation.reshape(propagation.reshape(places, first, split).transpose(order), moved, last)

    return op.flow.merge_terms(map_indices(op.scale("self"), into if factor else back))


def channel_shuffle_rule(op: Operation) -> Result:
    """channel_shuffle: [groups, channels] of axis 1, transposed."""
    shape, groups = op.shape, op.get("groups")
    split = (shape[0], groups, shape[1] // groups, *shape[2:])
    order = [0, 2, 1, *range(3, len(split))]
    moved = tuple(split[axis] for axis in order)
    return map_indices(
        op.scale(op.first),
        lambda places: propagation.reshape(propagation.reshape(places, shape, split).transpose(order), moved, shape),
    )
