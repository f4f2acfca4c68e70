"""Layout: integer arrays that name something at every place of a tensor, of size 1 along axes where it is the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]
"""Of as many axes as the tensor; along each either of the tensor's size or of size 1."""


def compact(places: Places) -> Places:
    """Size 1 along every axis on which nothing changes."""
    for axis, size in enumerate(places.shape):
        if size > 1:
            first = places.take([0], axis)
            if (places == first).all():
                places = first
    return places


def lift(places: Places, axes: int) -> Places:
    """With axes of size 1 in front, `axes` in all: how tensors are broadcast."""
    return places.reshape((1,) * (axes - places.ndim) + places.shape)


def reshape(places: Places, shape: Sequence[int], target: Sequence[int]) -> Places:
    """Those of a tensor of `shape` that is reshaped to `target`; only axes that are merged or cut are written out."""
    full, wanted = list(places.shape), [1] * len(target)
    for source, result in _groups(shape, target):
        if any(size > 1 for size in places.shape[source]):
            full[source] = shape[source]
            wanted[result] = target[result]
    return compact(np.broadcast_to(places, full).reshape(wanted))


def _groups(shape: Sequence[int], target: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """The shortest runs of axes of both shapes that hold as many entries."""
    i = j = 0
    while i < len(shape) or j < len(target):
        start, begin = i, j
        here = there = 1
        if i < len(shape):
            here, i = shape[i], i + 1
        if j < len(target):
            there, j = target[j], j + 1
        while here != there:
            if here < there:
                here, i = here * shape[i], i + 1
            else:
                there, j = there * target[j], j + 1
        yield slice(start, i), slice(begin, j)


def concatenate(parts: Sequence[Places], sizes: Sequence[int], axis: int) -> Places:
    """Those of tensors joined along an axis, on which they have those sizes."""
    shape = np.broadcast_shapes(*(part.take([0], axis).shape for part in parts))
    if all(part.shape[axis] == 1 for part in parts):
        wide = [np.broadcast_to(part, shape) for part in parts]
        if all(np.array_equal(part, wide[0]) for part in wide):
            return parts[0] if parts[0].shape == shape else wide[0]
    filled = [
        np.broadcast_to(part, (*shape[:axis], size, *shape[axis + 1 :]))
        for part, size in zip(parts, sizes, strict=True)
    ]
    return np.concatenate(filled, axis)
