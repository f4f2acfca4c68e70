"""Arrangement: rules of operators that move entries about, cut tensors apart or join them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sharpbench.symmetry.rules import propagation
from sharpbench.symmetry.rules.operation import Operation, Result, each, packet_of, pinned, shape_of
from sharpbench.symmetry.rules.propagation import IndexArray, Scale
from sharpbench.symmetry.rules.reductions import over, uniform


def reshaped(op: Operation) -> Result:
    """view, flatten, squeeze, unsqueeze: the entries keep their order."""
    if op.get("dtype") is not None:
        return pinned(op)  # bits under another name
    before, after = op.size(op.first), op.shape
    return op.flow.sum(each(op.scale(op.first), lambda places: propagation.reshape(places, before, after)))


def expanded(op: Operation) -> Result:
    """Axes in front, and copies along axes of size 1."""
    return each(op.scale(op.first), lambda places: propagation.lift(places, len(op.shape)))


def permuted(op: Operation) -> Result:
    """permute, by `dims`; transpose, by two axes; t."""
    order = list(range(len(op.shape)))
    if op.get("dims") is not None:
        order = op.axes("dims")
    elif order[1:]:
        one, other = op.axes("dim0")[0], op.axes("dim1")[0]
        if op.get("dim0") is None:
            one, other = 0, 1
        order[one], order[other] = order[other], order[one]
    return each(op.scale(op.first), lambda places: places.transpose(order))


def sliced(op: Operation) -> Result:
    """slice and narrow: a run of indices of one axis."""
    (axis,) = op.axes()
    size = op.size(op.first)[axis]
    start, length = op.get("start") or 0, op.get("length")
    if length is None:
        return _pieces(op, axis, [np.arange(size)[start : op.get("end") : op.get("step") or 1]])[0]
    return _pieces(op, axis, [start % size + np.arange(length)])[0]  # start may count from the end


def split(op: Operation) -> Result:
    """split, chunk: runs of indices of one axis, whose lengths the results show."""
    (axis,) = op.axes()
    lengths = [value.shape[axis] for value in op.node.meta["val"]]
    return _pieces(op, axis, np.split(np.arange(sum(lengths)), np.cumsum(lengths)[:-1]))


def selected(op: Operation) -> Result:
    """select: one index of one axis, which goes."""
    (axis,) = op.axes()
    (piece,) = _pieces(op, axis, [np.array([op.get("index")])])
    return each(piece, lambda places: places.squeeze(axis))


def unbound(op: Operation) -> Result:
    """unbind: every index of one axis, which goes."""
    (axis,) = op.axes()
    pieces = _pieces(op, axis, [np.array([index]) for index in range(op.size(op.first)[axis])])
    return [each(piece, lambda places: places.squeeze(axis)) for piece in pieces]


def _pieces(op: Operation, axis: int, indices: Sequence[Any]) -> list[Scale]:
    """The scale at these runs of indices of an axis; where they differ, the flow notes a cut."""

    def piece(places: IndexArray, run: Any) -> IndexArray:
        return places if places.shape[axis] == 1 else propagation.compact(places.take(run, axis))

    scale = op.scale(op.first)
    pieces = [tuple((factor, piece(places, run)) for factor, places in scale) for run in indices]
    if any(places.shape[axis] > 1 for _, places in scale):
        op.flow.cuts.append([np.concatenate([places.ravel() for _, places in each]) for each in pieces])
    return pieces


def joined(op: Operation) -> Result:
    """cat: one after the other along an axis."""
    axis = (op.get("dim") or 0) % len(op.shape)
    sized = zip(map(shape_of, op.get("tensors")), op.scales("tensors"), strict=True)
    parts = [(shape[axis], op.flow.single(scale, len(shape))) for shape, scale in sized if len(shape) == len(op.shape)]
    return ((1.0, propagation.concatenate([places for _, places in parts], [size for size, _ in parts], axis)),)


def stacked(op: Operation) -> Result:
    """stack: one after the other along a new axis."""
    axis = (op.get("dim") or 0) % len(op.shape)
    places = [np.expand_dims(op.flow.single(scale, len(op.shape) - 1), axis) for scale in op.scales("tensors")]
    return ((1.0, propagation.concatenate(places, [1] * len(places), axis)),)


def rolled(op: Operation) -> Result:
    """roll and flip: the same indices in another order."""
    axes = [axis % len(op.shape) for axis in op.get("dims")]  # none at all where none is named
    shifts = op.get("shifts")

    def moved(places: IndexArray) -> IndexArray:
        return np.flip(places, tuple(axes)) if shifts is None else np.roll(places, tuple(shifts), axes)

    return each(op.scale(op.first), moved) if axes or shifts is None else uniform(op)


def padded(op: Operation) -> Result:
    """Zeros around, which may have any scale; other modes repeat what is there, along the last axes."""
    widths, axes = list(op.get("pad") or op.get("padding")), len(op.shape)
    padding = [(0, 0)] * (axes - len(widths) // 2) + list(zip(widths[::2], widths[1::2], strict=True))[::-1]
    mode = op.get("mode") or ("constant" if packet_of(op.node) == "constant_pad_nd" else "other")
    if mode == "constant" and (op.get("value") or 0) not in (0, -math.inf):
        return pinned(op)
    if mode != "constant":
        return over(len(widths) // 2)(op)

    def around(places: IndexArray) -> IndexArray:
        for axis, (before, after) in enumerate(padding):
            if places.shape[axis] > 1:
                run = places.take(range(max(0, -before), places.shape[axis] - max(0, -after)), axis)
                sizes = [max(0, before), run.shape[axis], max(0, after)]
                rims = [op.flow.fresh([n if at == axis else 1 for at in range(axes)]) for n in sizes]
                parts = [(part, n) for part, n in zip((rims[0], run, rims[2]), sizes, strict=True) if n]
                places = propagation.concatenate([part for part, _ in parts], [n for _, n in parts], axis)
        return places

    return each(op.scale(op.first), around)


def repeated(op: Operation) -> Result:
    """repeat: copies one after the other along each axis."""

    def copies(places: IndexArray) -> IndexArray:
        wide = propagation.lift(places, len(op.shape))
        return np.tile(wide, [n if size > 1 else 1 for n, size in zip(op.get("repeats"), wide.shape, strict=True)])

    return each(op.scale(op.first), copies)


def interleaved(op: Operation) -> Result:
    """repeat_interleave: every index of one axis so many times."""
    count, axis = op.get("repeats"), op.get("dim")
    if not isinstance(count, int) or axis is None:
        return uniform(op)
    return each(op.scale("self"), lambda p: p.repeat(count, axis) if p.shape[axis] > 1 else p)


def indexed(op: Operation) -> Result:
    """x[i, :, j]: alike along the axes that are indexed by tensors, whichever entries those name."""
    indices = list(op.get("indices"))
    if any(index is not None and index.meta["val"].dtype == torch.bool for index in indices):
        return pinned(op)
    at = [axis for axis, index in enumerate(indices) if index is not None]
    scale = op.flow.constant(op.scale("self"), at)
    rest = [axis for axis in range(len(op.size("self"))) if axis not in at]
    new = len(op.shape) - len(rest)
    front = at[0] if at == list(range(at[0], at[-1] + 1)) else 0

    def arranged(places: IndexArray) -> IndexArray:
        kept = [places.shape[axis] for axis in rest]
        return places.reshape([*kept[:front], *[1] * new, *kept[front:]])

    return each(scale, arranged)


def shuffled(op: Operation) -> Result:
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

    return op.flow.sum(each(op.scale("self"), into if factor else back))


def mixed_channels(op: Operation) -> Result:
    """channel_shuffle: [groups, channels] of axis 1, transposed."""
    shape, groups = op.shape, op.get("groups")
    split = (shape[0], groups, shape[1] // groups, *shape[2:])
    order = [0, 2, 1, *range(3, len(split))]
    moved = tuple(split[axis] for axis in order)
    return each(
        op.scale(op.first),
        lambda places: propagation.reshape(propagation.reshape(places, shape, split).transpose(order), moved, shape),
    )
