"""Sums over the pairs of networks that differ in one hyperparameter and agree in all others.

Networks that agree in all hyperparameters but one are a block. All pairs of a block are compared at once, as matrices
of a bounded size, and their sums are kept by network and by the cell of the other network: these are about as many
numbers as networks times values of the hyperparameter, where the pairs are n^2 if only one hyperparameter varies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sharpbench.analysis.statistics.inputs import combine_codes, stack_by_size
from sharpbench.analysis.statistics.jackknife import Floats, Integers

MAX_PAIRS_AT_ONCE = 2**18
"""Pairs whose values are held at a time, so that they fit in a processor's cache."""
PairValues = Callable[[Integers, Integers], Sequence[NDArray[np.floating]]]
"""Several values [Q, r, b] of the pairs of the networks [Q, r, 1] with the networks [Q, 1, b]."""


@dataclass(frozen=True, slots=True, eq=False)
class AxisSums:
    """Sums over the pairs along an axis.

    Args:
        block: [n] The block of each network.
        network: [E] The network of each entry.
        partner: [E] The cell that its other networks are in; another than its own.
        pairs: [E] The number of these networks.
        sums: [C, E] Over these networks, of each of the C values.
    """

    block: Integers
    network: Integers
    partner: Integers
    pairs: Integers
    sums: Floats


def sum_pairs_along(columns: Mapping[str, Integers], name: str, cells: Integers, values: PairValues) -> AxisSums:
    """The sums of `values` over the pairs that differ in the axis `name` and agree in all others.

    Costs about networks times the size of a block operations, so n^2 only where one axis varies.
    """
    axis, networks = columns[name], len(cells)
    block = combine_codes([codes for other, codes in columns.items() if other != name], networks)
    settings = int(axis.max()) + 1
    cell = np.full((int(block.max()) + 1, settings), -1, dtype=np.intp)
    cell[block, axis] = cells
    found: Floats | None = None
    for rows, members in stack_pairs(block):
        into = np.equal(axis[members][..., None], np.arange(settings))  # [Q, b, V]
        summed = [each @ into.astype(each.dtype) for each in values(rows[..., None], members[:, None])]
        found = np.zeros((len(summed), networks, settings)) if found is None else found
        found[:, rows] = summed
    partner = cell[block]
    partner[np.arange(networks), axis] = -1
    network, setting = np.nonzero(partner >= 0)
    partner = partner[network, setting]
    sums = np.zeros((0, len(network))) if found is None else found[:, network, setting]
    return AxisSums(block, network, partner, np.bincount(cells)[partner].astype(np.intp), sums)


def stack_pairs(block: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Networks [Q, r] and all networks [Q, b] of their blocks, for blocks of one size b at a time.

    Each network is in one [Q, r], and r b Q is bounded.
    """
    for members in stack_by_size(block):
        size = members.shape[1]
        several, rows = max(1, MAX_PAIRS_AT_ONCE // size**2), max(1, MAX_PAIRS_AT_ONCE // size)
        for start in range(0, len(members), several):
            chosen = members[start : start + several]
            for row in range(0, size, rows):
                yield chosen[:, row : row + rows], chosen
