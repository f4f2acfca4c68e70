"""Log-scales of the tensors of a captured graph, and the linear equations between them.

A rescaling multiplies every tensor by exp(s), entry by entry. The s of a tensor is a `Scale`, a weighted sum of arrays
of indices of unknowns; unknown 0 has the value 0. Parameters introduce unknowns: one per block of rows (`Blocks`), or
one per index of each axis (`Axes`). Everything else is the same for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import fx

from sharpbench.symmetry.linear_system import Equations

IndexArray = NDArray[np.int64]
"""An index at every position of a tensor: along each axis of the tensor's size, or of size 1 where it is constant."""


def compact(places: IndexArray) -> IndexArray:
    """`places` with size 1 along every axis on which it is constant."""
    for axis, size in enumerate(places.shape):
        if size > 1:
            first = places.take([0], axis)
            if (places == first).all():
                places = first
    return places


def lift(places: IndexArray, axes: int) -> IndexArray:
    """`places` with `axes` axes, by new ones of size 1 in front, as in broadcasting."""
    return places.reshape((1,) * (axes - places.ndim) + places.shape)


def reshape(places: IndexArray, shape: Sequence[int], target: Sequence[int]) -> IndexArray:
    """The indices of a tensor of `shape` after its reshaping to `target`; only merged or split axes are expanded."""
    full, wanted = list(places.shape), [1] * len(target)
    for source, result in _matching_axes(shape, target):
        if any(size > 1 for size in places.shape[source]):
            full[source] = shape[source]
            wanted[result] = target[result]
    return compact(np.broadcast_to(places, full).reshape(wanted))


def _matching_axes(shape: Sequence[int], target: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """The shortest runs of axes of both shapes with equal numbers of entries."""
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
    """The indices of tensors that are concatenated along an axis, on which they have these sizes."""
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
"""Terms (coefficient, indices of unknowns), summed at every position of a tensor; empty: it keeps its scale."""

UNSCALED: Scale = ()


def multiply_scale(factor: float, scale: Scale) -> Scale:
    """factor * s."""
    return tuple((factor * coefficient, places) for coefficient, places in scale)


@dataclass(eq=False)
class ScalePropagation:
    """The unknowns, scales and equations of a graph, as they are collected node by node.

    names: placeholder -> parameter, of those that may be rescaled.
    loose: parameters whose unknowns are determined only up to shifts of one axis against another -> the unknowns that
        `fix_loose_shifts` sets to 0.
    outputs: the unknowns of rows of weights.
    cuts: for each split of a tensor, the unknowns of its pieces.
    products: both sides of each contraction over the last axis.
    biases: of linear layers, weight -> bias.
    units: whether the unknowns stand for units that may be permuted, and not for log-scales: units that are multiplied
        and summed over are pairs, while log-scales of products are constant along the sum.
    """

    names: Mapping[fx.Node, str]
    units: bool = False
    scales: dict[fx.Node, Scale | list[Scale]] = field(default_factory=dict)
    parameters: dict[str, Scale] = field(default_factory=dict)
    loose: dict[str, list[IndexArray]] = field(default_factory=dict)
    outputs: list[IndexArray] = field(default_factory=list)
    cuts: list[list[IndexArray]] = field(default_factory=list)
    products: list[tuple[Scale, Scale]] = field(default_factory=list)
    biases: dict[str, str] = field(default_factory=dict)
    equations: list[Equations] = field(default_factory=list)
    unknown_operators: dict[str, None] = field(default_factory=dict)
    unknown_count: int = 1

    def new_unknowns(self, shape: Sequence[int]) -> IndexArray:
        """New unknowns, one at each position."""
        count = int(np.prod(shape, dtype=np.int64))
        self.unknown_count += count
        return np.arange(self.unknown_count - count, self.unknown_count, dtype=np.int64).reshape(tuple(shape))

    def scale_of(self, node: object) -> Scale:
        """The scale of an argument; UNSCALED for numbers and tensors that are not rescaled."""
        scale = self.scales.get(node, UNSCALED) if isinstance(node, fx.Node) else UNSCALED
        return scale if isinstance(scale, tuple) else UNSCALED

    def fix_loose_shifts(self) -> None:
        """Remove the remaining freedom to shift one axis of a parameter against another."""
        for shifts in self.loose.values():
            for places in shifts:
                self.require_zero(((1.0, places),))
        self.loose.clear()

    def require_zero(self, scale: Scale) -> None:
        """Add the equations that the weighted sum is 0 at every position.

        A sum of arrays that each depend on few axes is 0 everywhere if it is 0 on the sections through index 0
        that contain the axes of one array each: O + I equations replace O times I.
        """
        terms = [(coefficient, places) for coefficient, places in scale if places.any()]
        if not terms:
            return
        axes = max(places.ndim for _, places in terms)
        arrays = [lift(places, axes) for _, places in terms]
        coefficients = [coefficient for coefficient, _ in terms]
        spans = {_varying_axes(places) for places in arrays}
        for span in spans:
            if any(span < other for other in spans):
                continue
            cut = [_take_section(places, span) for places in arrays]
            names = np.stack([each.ravel() for each in np.broadcast_arrays(*cut)])
            self.equations.append((coefficients, _distinct_columns(names)[0]))

    def require_equal(self, one: Scale, other: Scale) -> None:
        """Add the equations that both scales are equal at every position."""
        if one is not other:
            self.require_zero((*one, *multiply_scale(-1.0, other)))

    def require_constant(self, scale: Scale, axes: Sequence[int]) -> Scale:
        """The scale, with equations that make it constant along these axes."""
        first = tuple((factor, _take_first(places, axes)) for factor, places in scale)
        if any(places.shape != kept.shape for (_, places), (_, kept) in zip(scale, first, strict=True)):
            self.require_equal(scale, first)
        return first

    def pair_units(self, terms: Scale, axes: Sequence[int]) -> Scale:
        """The terms of a product that are left after its sum along these axes, on which units cancel in pairs."""
        varying = [any(places.shape[axis] > 1 for axis in axes) for _, places in terms]
        self.require_zero(tuple(term for term, varies in zip(terms, varying, strict=True) if varies))
        return tuple(term for term, varies in zip(terms, varying, strict=True) if not varies)

    def merge_terms(self, scale: Scale) -> Scale:
        """The same scale with fewer terms: a term whose axes are among another's is added to it, as new unknowns."""
        axes = max((places.ndim for _, places in scale), default=0)
        left = [(factor, lift(places, axes)) for factor, places in scale if places.any()]
        left.sort(key=lambda term: len(_varying_axes(term[1])))
        kept: list[tuple[float, IndexArray]] = []
        while left:
            largest = _varying_axes(left[-1][1])
            kept.append(self._merge_into_one([term for term in left if _varying_axes(term[1]) <= largest]))
            left = [term for term in left if not _varying_axes(term[1]) <= largest]
        return tuple((factor, places) for factor, places in kept if factor)

    def as_unknowns(self, scale: Scale, axes: int) -> IndexArray:
        """The scale as one unknown at each position."""
        if not scale:
            return np.zeros((1,) * axes, dtype=np.int64)
        if len(scale) == 1 and scale[0][0] == 1.0:
            return lift(scale[0][1], axes)
        wide = np.broadcast_shapes(*(places.shape for _, places in scale))
        return lift(self._name_sum([(factor, np.broadcast_to(places, wide)) for factor, places in scale]), axes)

    def _merge_into_one(self, terms: Sequence[tuple[float, IndexArray]]) -> tuple[float, IndexArray]:
        """One term that equals the sum of several."""
        merged: list[tuple[float, IndexArray]] = []
        for factor, places in terms:
            same = [index for index, (_, other) in enumerate(merged) if np.array_equal(places, other)]
            if same:
                merged[same[0]] = (merged[same[0]][0] + factor, places)
            else:
                merged.append((factor, places))
        merged = [term for term in merged if term[0]] or merged[:1]
        return merged[0] if len(merged) == 1 else (1.0, self._name_sum(merged))

    def _name_sum(self, terms: Sequence[tuple[float, IndexArray]]) -> IndexArray:
        """New unknowns for the weighted sum, one for each different combination."""
        arrays = np.broadcast_arrays(*(places for _, places in terms))
        names, inverse = _distinct_columns(np.stack([places.ravel() for places in arrays]))
        new = self.new_unknowns((names.shape[1],))
        self.equations.append(([-1.0, *(factor for factor, _ in terms)], np.vstack((new, names))))
        return new[inverse].reshape(arrays[0].shape)


@dataclass(frozen=True, slots=True)
class Axes:
    """Unknowns for groups of units: one for each index of each axis; an entry's scale is the sum of its unknowns.

    groups: weight of a convolution -> its number of groups, by which its inputs are counted.
    """

    groups: Mapping[fx.Node, int]

    def __call__(self, flow: ScalePropagation, node: fx.Node, shape: Sequence[int]) -> Scale:
        """New unknowns; all arrays but the first may be shifted so that they are 0 at their first index."""
        if node in self.groups:
            count = self.groups[node]
            rows = flow.new_unknowns((shape[0], *(1 for _ in shape[1:])))
            inputs = flow.new_unknowns((count, 1, shape[1])).repeat(shape[0] // count, 1)
            arrays = [rows, inputs.reshape(*shape[:2], *(1 for _ in shape[2:]))]
            axes = [0, 1]
            if flow.units and (count > 1 or shape[1] == 1):
                arrays, axes = arrays[:1], axes[:1]
        else:
            axes = list(range(len(shape)))
            if len(shape) > 2:
                axes = [axis for axis in reversed(axes) if shape[axis] > 1]
            if flow.units:
                axes = [axis for axis in axes if shape[axis] > 1]
            arrays = [flow.new_unknowns([size if at == axis else 1 for at, size in enumerate(shape)]) for axis in axes]
        if len(arrays) > 1 and not flow.units:
            shifts = zip(arrays[1:], axes[1:], strict=True)
            flow.loose[flow.names[node]] = [places.take([0], axis) for places, axis in shifts]
        return tuple((1.0, places) for places in arrays or [flow.new_unknowns([1] * len(shape))])


@dataclass(frozen=True, slots=True)
class Blocks:
    """Unknowns for groups of layers: one per parameter, or one for each block of its rows."""

    rows: Mapping[str, IndexArray]

    def __call__(self, flow: ScalePropagation, node: fx.Node, shape: Sequence[int]) -> Scale:
        """New unknowns."""
        block = self.rows.get(flow.names[node], np.zeros(1, dtype=np.int64))
        places = flow.new_unknowns((int(block.max()) + 1,))[block]
        return ((1.0, places.reshape(len(block), *(1 for _ in shape[1:])) if shape else places.reshape(())),)


def _varying_axes(places: IndexArray) -> frozenset[int]:
    return frozenset(axis for axis, size in enumerate(places.shape) if size > 1)


def _take_section(places: IndexArray, span: frozenset[int]) -> IndexArray:
    return _take_first(places, [axis for axis in range(places.ndim) if axis not in span])


def _take_first(places: IndexArray, axes: Sequence[int]) -> IndexArray:
    for axis in axes:
        places = places.take([0], axis)
    return places


def _distinct_columns(names: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different columns [terms, few], and the index of each column among them."""
    key = names[0]
    for row in names[1:]:
        key = np.unique(key, return_inverse=True)[1] * (int(row.max()) + 1) + row
    _, index, inverse = np.unique(key, return_index=True, return_inverse=True)
    return names[:, index], inverse
