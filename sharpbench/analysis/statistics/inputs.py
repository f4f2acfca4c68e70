"""Inputs of the statistics: checks, cells and axes as codes, and whether there are enough networks."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from sharpbench.analysis.statistics.jackknife import Floats, Integers

Axes = Mapping[str, Sequence[Hashable]]
"""Name of a hyperparameter -> its value for each network. The seed is not one: networks that differ only in it share a
cell."""


def varied_axes(axes: Axes, networks: int) -> dict[str, Integers]:
    """Each axis with at least two values, as the index of the value [n].

    Raises:
        ValueError: for an axis of another length.
    """
    found = {}
    for name, values in axes.items():
        if len(values) != networks:
            raise ValueError(f"axis '{name}' has {len(values)} values for {networks} networks; give one per network")
        numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
        if len(numbers) > 1:
            found[name] = np.array([numbers[value] for value in values], dtype=np.intp)
    return found


def combine_codes(columns: Sequence[Integers], networks: int) -> Integers:
    """[n] The index of each network's combination of values, in their order; all 0 where there is no column."""
    codes: Integers = np.zeros(networks, dtype=np.intp)
    for column in columns:  # ten times as fast as np.unique along an axis, which sorts structures
        codes = np.unique(codes * (int(column.max()) + 1) + column, return_inverse=True)[1].astype(np.intp)
    return codes


def stack_by_size(codes: Integers) -> Iterator[Integers]:
    """[Q, s] The networks of all Q cells of one size s, for each size; codes [n]: 0 ... K-1, the cell of each."""
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    first = np.cumsum(sizes) - sizes
    for size in np.unique(sizes[sizes > 0]):
        yield order[first[sizes == size][:, None] + np.arange(size)]


MIN_UNITS = 20
"""Units drawn together that an interval needs at least."""


def check_arrays(x: ArrayLike, y: ArrayLike, cells: Sequence[int] | Integers) -> tuple[Floats, Floats, Integers]:
    """The three as arrays of one length, with cells numbered from 0.

    Raises:
        ValueError: for lengths that differ, and for NaN or infinity.
    """
    first, second = to_floats(x, "x"), to_floats(y, "y")
    labels = np.asarray(cells)
    if not len(first) == len(second) == len(labels):
        lengths = f"{len(first)}, {len(second)} and {len(labels)}"
        raise ValueError(f"x, y and cells have {lengths} values; give one of each per network")
    codes: Integers = np.unique(labels, return_inverse=True)[1].astype(np.intp)
    return first, second, codes


def to_floats(values: ArrayLike, name: str) -> Floats:
    """`values` as an array of finite numbers [n].

    Raises:
        ValueError: for another shape, and for NaN or infinity; it names the argument.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; give one number per network")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds {array[~np.isfinite(array)][0]}; leave networks without a finite value out")
    return array


def is_constant(values: Floats) -> bool:
    """Whether all are equal."""
    return bool((values == values[0]).all())


def unit_codes(units: Sequence[int] | Integers, networks: int) -> Integers:
    """Units numbered from 0.

    Raises:
        ValueError: unless there is one for each network.
    """
    labels = np.asarray(units)
    if len(labels) != networks:
        raise ValueError(f"units has {len(labels)} values for {networks} networks; give one per network")
    return np.unique(labels, return_inverse=True)[1].astype(np.intp)


def untied_share(x: Floats, y: Floats) -> float:
    """The share of the pairs of networks that are tied neither in x nor in y; 0 for one network."""
    pairs = len(x) * (len(x) - 1)
    if not pairs:
        return 0.0
    one, other = (np.unique(values, return_counts=True)[1] for values in (x, y))
    if len(one) == len(other) == len(x):
        return 1.0
    both = np.unique(x + 1j * y, return_counts=True)[1]
    tied = sum(int((counts * (counts - 1)).sum()) * sign for counts, sign in ((one, 1), (other, 1), (both, -1)))
    return 1 - tied / pairs


def explain_no_interval(cells: Integers, units: Integers | None, needed: int) -> str | None:
    """Why there is no interval: too few networks in a cell, or too few units; None where there is one."""
    if units is not None:
        count = len(np.unique(units))
        if count >= MIN_UNITS:
            return None
        return f"{count} unit{'s' * (count != 1)} drawn, an interval needs {MIN_UNITS}"
    least = int(np.unique(cells, return_counts=True)[1].min())
    if least >= needed:
        return None
    return f"the smallest cell holds {least} network{'s' * (least != 1)}, an interval needs {needed}"


def explain_undefined(x: Floats, y: Floats) -> str:
    """Why no rank correlation of the two is defined."""
    if len(x) < 2:
        return f"{len(x)} network{'s' * (len(x) != 1)}, tau needs 2"
    return "the measure is the same for all networks" if is_constant(x) else "the gap is the same for all networks"
