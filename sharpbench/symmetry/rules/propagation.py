"""Flow: how log-scales run through a captured graph, and the linear equations that hold them together.

A rescaling multiplies every tensor by exp(s), entry by entry. The s of a tensor is a `Scale`, a weighted sum of
arrays that name unknowns; unknown 0 is the ground, whose value is 0. Parameters bring the unknowns along: one a
block of rows or one an index of each axis, as `Blocks` and `Axes` say. Everything else is the same for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import fx

from sharpbench.symmetry.linear_system import Equations

# Layout: integer arrays that name something at every place of a tensor, of size 1 along axes where it is the same.

IndexArray = NDArray[np.int64]
"""Of as many axes as the tensor; along each either of the tensor's size or of size 1."""


def compact(places: IndexArray) -> IndexArray:
    """Size 1 along every axis on which nothing changes."""
    for axis, size in enumerate(places.shape):
        if size > 1:
            first = places.take([0], axis)
            if (places == first).all():
                places = first
    return places


def lift(places: IndexArray, axes: int) -> IndexArray:
    """With axes of size 1 in front, `axes` in all: how tensors are broadcast."""
    return places.reshape((1,) * (axes - places.ndim) + places.shape)


def reshape(places: IndexArray, shape: Sequence[int], target: Sequence[int]) -> IndexArray:
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


def concatenate(parts: Sequence[IndexArray], sizes: Sequence[int], axis: int) -> IndexArray:
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


Scale = tuple[tuple[float, IndexArray], ...]
"""The sum of coefficient times unknown, at every place of a tensor; empty: the tensor keeps its scale."""

GROUND: Scale = ()


def times(factor: float, scale: Scale) -> Scale:
    """factor * s."""
    return tuple((factor * coefficient, places) for coefficient, places in scale)


@dataclass(eq=False)
class ScalePropagation:
    """The unknowns, scales and equations of a graph while it is walked through.

    names: placeholder -> parameter, of those that may be rescaled. loose: parameters whose unknowns are still
    determined up to shifts of one axis against another, and what is to be 0 in the end. outputs: the unknowns of
    rows of weights. cuts: where tensors are taken apart, the unknowns of the pieces. products: both sides of each
    contraction over the last axis. biases: of linear layers, weight -> bias.
    """

    names: Mapping[fx.Node, str]
    scales: dict[fx.Node, Scale | list[Scale]] = field(default_factory=dict)
    parameters: dict[str, Scale] = field(default_factory=dict)
    loose: dict[str, list[IndexArray]] = field(default_factory=dict)
    outputs: list[IndexArray] = field(default_factory=list)
    cuts: list[list[IndexArray]] = field(default_factory=list)
    products: list[tuple[Scale, Scale]] = field(default_factory=list)
    biases: dict[str, str] = field(default_factory=dict)
    equations: list[Equations] = field(default_factory=list)
    unknown: dict[str, None] = field(default_factory=dict)
    unknowns: int = 1

    def fresh(self, shape: Sequence[int]) -> IndexArray:
        """New unknowns, one at each place."""
        count = int(np.prod(shape, dtype=np.int64))
        self.unknowns += count
        return np.arange(self.unknowns - count, self.unknowns, dtype=np.int64).reshape(tuple(shape))

    def of(self, node: object) -> Scale:
        """The scale of an argument; numbers and tensors that nothing rescales are on the ground."""
        scale = self.scales.get(node, GROUND) if isinstance(node, fx.Node) else GROUND
        return scale if isinstance(scale, tuple) else GROUND

    def settle(self) -> None:
        """Take away the shifts of parameters that are still loose."""
        for shifts in self.loose.values():
            for places in shifts:
                self.vanish(((1.0, places),))
        self.loose.clear()

    def vanish(self, scale: Scale) -> None:
        """The weighted sum is 0 at every place.

        A sum of arrays that each depend on few axes is 0 everywhere if it is 0 on the sections through index 0
        that hold the axes of one array each: so O + I equations stand for O times I.
        """
        terms = [(coefficient, places) for coefficient, places in scale if places.any()]
        if not terms:
            return
        axes = max(places.ndim for _, places in terms)
        arrays = [lift(places, axes) for _, places in terms]
        coefficients = [coefficient for coefficient, _ in terms]
        spans = {_span(places) for places in arrays}
        for span in spans:
            if any(span < other for other in spans):
                continue
            cut = [_section(places, span) for places in arrays]
            names = np.stack([each.ravel() for each in np.broadcast_arrays(*cut)])
            self.equations.append((coefficients, _distinct(names)[0]))

    def equal(self, one: Scale, other: Scale) -> None:
        """Both are the same at every place."""
        if one is not other:
            self.vanish((*one, *times(-1.0, other)))

    def constant(self, scale: Scale, axes: Sequence[int]) -> Scale:
        """The scale, from now on the same along these axes."""
        first = tuple((factor, _first(places, axes)) for factor, places in scale)
        if any(places.shape != kept.shape for (_, places), (_, kept) in zip(scale, first, strict=True)):
            self.equal(scale, first)
        return first

    def sum(self, scale: Scale) -> Scale:
        """The same with few terms: those whose axes are among another's are added to it, as new unknowns."""
        axes = max((places.ndim for _, places in scale), default=0)
        left = [(factor, lift(places, axes)) for factor, places in scale if places.any()]
        left.sort(key=lambda term: len(_span(term[1])))
        kept: list[tuple[float, IndexArray]] = []
        while left:
            largest = _span(left[-1][1])
            kept.append(self._added([term for term in left if _span(term[1]) <= largest]))
            left = [term for term in left if not _span(term[1]) <= largest]
        return tuple((factor, places) for factor, places in kept if factor)

    def single(self, scale: Scale, axes: int) -> IndexArray:
        """One unknown at each place."""
        if not scale:
            return np.zeros((1,) * axes, dtype=np.int64)
        if len(scale) == 1 and scale[0][0] == 1.0:
            return lift(scale[0][1], axes)
        wide = np.broadcast_shapes(*(places.shape for _, places in scale))
        return lift(self._named([(factor, np.broadcast_to(places, wide)) for factor, places in scale]), axes)

    def _added(self, terms: Sequence[tuple[float, IndexArray]]) -> tuple[float, IndexArray]:
        """One term for several."""
        merged: list[tuple[float, IndexArray]] = []
        for factor, places in terms:
            same = [index for index, (_, other) in enumerate(merged) if np.array_equal(places, other)]
            if same:
                merged[same[0]] = (merged[same[0]][0] + factor, places)
            else:
                merged.append((factor, places))
        merged = [term for term in merged if term[0]] or merged[:1]
        return merged[0] if len(merged) == 1 else (1.0, self._named(merged))

    def _named(self, terms: Sequence[tuple[float, IndexArray]]) -> IndexArray:
        """Unknowns for the weighted sum, one for every different combination."""
        arrays = np.broadcast_arrays(*(places for _, places in terms))
        names, inverse = _distinct(np.stack([places.ravel() for places in arrays]))
        new = self.fresh((names.shape[1],))
        self.equations.append(([-1.0, *(factor for factor, _ in terms)], np.vstack((new, names))))
        return new[inverse].reshape(arrays[0].shape)


@dataclass(frozen=True, slots=True)
class Axes:
    """Unit-wise: a parameter has one unknown for each index of each axis, entries have the sum of theirs.

    groups: of the convolutions' weights, whose inputs are counted by group.
    """

    groups: Mapping[fx.Node, int]

    def __call__(self, flow: ScalePropagation, node: fx.Node, shape: Sequence[int]) -> Scale:
        """New unknowns; all arrays but the first may be shifted to be 0 at their first index."""
        if node in self.groups:
            count = self.groups[node]
            rows = flow.fresh((shape[0], *(1 for _ in shape[1:])))
            inputs = flow.fresh((count, 1, shape[1])).repeat(shape[0] // count, 1)
            arrays = [rows, inputs.reshape(*shape[:2], *(1 for _ in shape[2:]))]
            axes = [0, 1]
        else:
            axes = list(range(len(shape)))
            if len(shape) > 2:
                axes = [axis for axis in reversed(axes) if shape[axis] > 1]
            arrays = [flow.fresh([size if at == axis else 1 for at, size in enumerate(shape)]) for axis in axes]
        if len(arrays) > 1:
            shifts = zip(arrays[1:], axes[1:], strict=True)
            flow.loose[flow.names[node]] = [places.take([0], axis) for places, axis in shifts]
        return tuple((1.0, places) for places in arrays or [flow.fresh([1] * len(shape))])


@dataclass(frozen=True, slots=True)
class Blocks:
    """Layer-wise: a parameter has one unknown, or one for each of the blocks that its rows are cut into."""

    rows: Mapping[str, IndexArray]

    def __call__(self, flow: ScalePropagation, node: fx.Node, shape: Sequence[int]) -> Scale:
        """New unknowns."""
        block = self.rows.get(flow.names[node], np.zeros(1, dtype=np.int64))
        places = flow.fresh((int(block.max()) + 1,))[block]
        return ((1.0, places.reshape(len(block), *(1 for _ in shape[1:])) if shape else places.reshape(())),)


def _span(places: IndexArray) -> frozenset[int]:
    return frozenset(axis for axis, size in enumerate(places.shape) if size > 1)


def _section(places: IndexArray, span: frozenset[int]) -> IndexArray:
    return _first(places, [axis for axis in range(places.ndim) if axis not in span])


def _first(places: IndexArray, axes: Sequence[int]) -> IndexArray:
    for axis in axes:
        places = places.take([0], axis)
    return places


def _distinct(names: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different columns [terms, few], and which of them each column is."""
    key = names[0]
    for row in names[1:]:
        key = np.unique(key, return_inverse=True)[1] * (int(row.max()) + 1) + row
    _, index, inverse = np.unique(key, return_index=True, return_inverse=True)
    return names[:, index], inverse
