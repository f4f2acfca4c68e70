"""Counts of pairs of networks by the groups of the two, where values are dealt out anew many times.

Both orders are cut into chunks: that of the values x, and that of y. A pair whose networks lie in different chunks of
both orders is counted from the numbers of networks by chunks and group. A pair of one chunk of x, or of one chunk of y,
is compared, for many deals at once. With the right number of chunks n networks in m groups cost about n^(4/3) m^(1/3)
operations a deal, where going through the pairs costs n^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from sharpbench.analysis.statistics.jackknife import Integers
from sharpbench.analysis.statistics.pair_counts import Counts

DEALS_AT_ONCE = 64
MAX_PAIRS_AT_ONCE = 2**13
"""Pairs that are compared at once, for each deal, so that they fit in a processor's cache."""
MAX_ENTRIES_AT_ONCE = 2**16
"""Numbers of networks by chunks and group that are held at once, for the same reason."""
MAX_CHUNKS = 255
"""So that the number of a chunk is one byte."""
MAX_COUNT = 255
"""The largest number that one byte counts to."""


def chunk_sizes(networks: int, groups: int) -> tuple[int, int]:
    """The sizes of the chunks of y and of x that make counting pairs of so many networks and groups fast.

    Those of x are half as large: their pairs are listed for each measure, those of y once.
    """
    chunks = max(1, round(math.cbrt(networks**2 / (60 * groups))))
    of_y, of_x = (-(-networks // min(MAX_CHUNKS, number)) for number in (chunks, 2 * chunks))
    return of_y, of_x


@dataclass(frozen=True, slots=True, eq=False)
class ChunkedOrder:
    """An order of networks, cut into chunks of about equal size; networks with equal values share a chunk.

    Args:
        rank: [n] The number of networks with a smaller value.
        chunk: [n] The chunk of each network, ascending with its value.
        larger, smaller: [P] The pairs of networks of one chunk with different values.
    """

    rank: Integers
    chunk: NDArray[np.uint8]
    larger: Integers
    smaller: Integers

    @staticmethod
    def of(values: NDArray[np.floating], size: int) -> ChunkedOrder:
        """The order of `values` [n], in chunks of about `size`."""
        order = np.argsort(values, kind="stable")
        ascending = values[order]
        below = np.searchsorted(ascending, ascending, side="left")
        chunk = below // size
        first = np.searchsorted(chunk, chunk, side="left")  # of its chunk
        place = np.arange(len(values))
        before = place - first
        # in 4 bytes, as the arrays of pairs are long
        at = np.repeat(place.astype(np.int32), before)
        other = np.arange(len(at), dtype=np.int32)
        other -= np.repeat((np.cumsum(before) - before - first).astype(np.int32), before)
        rank = np.empty(len(values), dtype=np.intp)
        rank[order] = below
        if (below[1:] == below[:-1]).any():
            differ = below[at] > below[other]
            at, other = at[differ], other[differ]
        order = order.astype(np.int32)
        return ChunkedOrder(rank, (rank // size).astype(np.uint8), order[at], order[other])


def _begin_rows(key: NDArray[np.integer]) -> Integers:
    """The places where rows of pairs of one key begin, of as many as a byte can count; key ascending."""
    first = np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])
    sizes = np.diff(np.append(first, len(key)))
    if sizes.max() <= MAX_COUNT:
        return first
    rows = -(-sizes // MAX_COUNT)
    since = np.arange(int(rows.sum())) - np.repeat(np.cumsum(rows) - rows, rows)
    begins: Integers = np.repeat(first, rows) + MAX_COUNT * since
    return begins


class PairCounter:
    """Counts, by the groups of the two, those of certain pairs in whose values the first is larger.

    Args:
        larger, smaller: [P] The pairs.
        group: [n], 0 ... m-1.
    """

    def __init__(self, larger: Integers, smaller: Integers, group: Integers) -> None:
        groups = int(group.max()) + 1
        self._tables = groups**2
        group = group.astype(np.uint16 if self._tables < 2**16 else np.int64)
        keys = group[larger] * group.dtype.type(groups) + group[smaller]
        held = np.uint16 if len(group) <= 2**16 else np.int32
        ones, places = np.ones(MAX_PAIRS_AT_ONCE, dtype=np.uint8), np.arange(MAX_PAIRS_AT_ONCE, dtype=np.int32)
        self._slices: list[tuple[Integers, Integers, csr_matrix]] = []
        totals = []
        for start in range(0, len(keys), MAX_PAIRS_AT_ONCE):
            chosen = slice(start, start + MAX_PAIRS_AT_ONCE)
            order = np.argsort(keys[chosen], kind="stable")
            key = keys[chosen][order]
            begins = _begin_rows(key)
            totals.append(key[begins].astype(np.intp))
            ends = np.append(begins, len(key)).astype(np.int32)
            rows = csr_matrix((ones[: len(key)], places[: len(key)], ends), (len(begins), len(key)))
            self._slices.append((larger[chosen][order].astype(held), smaller[chosen][order].astype(held), rows))
        into = np.concatenate([np.zeros(0, dtype=np.intp), *totals])
        place = np.arange(len(into))
        self._total = csr_matrix((np.ones(len(into), dtype=np.int32), (into, place)), (self._tables, len(into)))

    def count(self, values: NDArray[np.unsignedinteger]) -> Counts:
        """[m * m, B] For each of B columns of values [n, B]."""
        if not self._slices:
            return np.zeros((self._tables, values.shape[1]), dtype=np.int64)
        rows = [
            matrix @ np.greater(values.take(larger, axis=0), values.take(smaller, axis=0)).view(np.uint8)
            for larger, smaller, matrix in self._slices
        ]
        counted: Counts = (self._total @ np.concatenate(rows).astype(np.int32)).astype(np.int64)
        return counted


class DealtPairs:
    """The pairs in which one network has the larger y, by groups, and how many of them have the larger x as well.

    Args:
        y: [n] The order of the networks in y.
        group: [n], 0 ... m-1.
    """

    def __init__(self, y: ChunkedOrder, group: Integers) -> None:
        self._y, self._group = y, group
        self._groups = int(group.max()) + 1
        self._in_y_chunk = PairCounter(y.larger, y.smaller, group)
        self._rank = y.rank.astype(np.uint16 if len(group) <= 2**16 else np.int64)

    def count(self, x: ChunkedOrder, deals: Integers) -> Counts:
        """[B, m, m] For each deal: pairs with the larger x and y, by the group of this network and of the other.

        deals [B, n]: whose value of x each network gets; networks get values of their own group.
        """
        in_x_chunk = PairCounter(x.larger, x.smaller, self._group)
        found = np.empty((len(deals), self._groups, self._groups), dtype=np.int64)
        for start in range(0, len(deals), DEALS_AT_ONCE):
            sources = deals[start : start + DEALS_AT_ONCE]
            chunks = x.chunk[sources]  # [B, n]
            y_of_source = np.empty((sources.shape[1], len(sources)), dtype=self._rank.dtype)
            y_of_source[sources.T, np.arange(len(sources))] = self._rank[:, None]
            near = self._in_y_chunk.count(np.ascontiguousarray(chunks.T)) + in_x_chunk.count(y_of_source)
            found[start : start + len(sources)] = self._count_far(chunks) + near.T.reshape(-1, *found.shape[1:])
        return found

    def _count_far(self, chunks: NDArray[np.uint8]) -> Counts:
        """The pairs in different chunks of both orders, where network i has the chunk chunks[b, i] of x."""
        shape = (int(self._y.chunk.max()) + 1, int(chunks.max()) + 1, self._groups)
        entries, found = int(np.prod(shape)), np.empty((len(chunks), shape[2], shape[2]), dtype=np.int64)
        place = (self._y.chunk.astype(np.intp) * shape[1] + chunks) * shape[2] + self._group
        for start in range(0, len(chunks), step := max(1, MAX_ENTRIES_AT_ONCE // entries)):
            chosen = place[start : start + step]
            held = np.bincount(
                (chosen + np.arange(len(chosen))[:, None] * entries).ravel(), minlength=len(chosen) * entries
            )
            held = held.reshape(-1, *shape).astype(np.float64)
            above = held[:, 1:, 1:].reshape(len(held), -1, shape[2])
            below = held[:, :-1, :-1].copy()
            for number in range(1, below.shape[1]):  # as cumsum along the axis, but in the order of memory
                below[:, number] += below[:, number - 1]
            for number in range(1, below.shape[2]):
                below[:, :, number] += below[:, :, number - 1]
            below = below.reshape(above.shape)
            found[start : start + step] = above.swapaxes(1, 2) @ below  # exact: below 2^53
        return found
