"""Counts of pairs of networks by the groups of the two, from sets of networks that are bits of 64-bit words.

The networks are in the order of their groups, and each group has whole words. A set of networks is then a row of W
words, and the pairs (i, j) with two properties are the bits that two [n, W] arrays have in common. Counting n^2 pairs
costs n^2 / 64 operations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpbench.analysis.statistics.jackknife import Integers

Words = NDArray[np.uint64]
Counts = NDArray[np.int64]  # [..., m, m]

_BITS_OF_BYTES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def count_bits(words: Words) -> NDArray[np.uint8]:
    """The number of bits that are set, by word."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        found: NDArray[np.uint8] = np.bitwise_count(words)
        return found
    counted: NDArray[np.uint8] = _BITS_OF_BYTES[words[..., None].view(np.uint8)].sum(axis=-1, dtype=np.uint8)
    return counted


class GroupBits:
    """The words of the networks of each group.

    Args:
        group: [n], 0 ... m-1, ascending.

    Attributes:
        words: W, the number of words of a set of networks.
        groups: m.
    """

    def __init__(self, group: Integers) -> None:
        sizes = np.bincount(group)
        words = -(-sizes // 64)
        first = np.cumsum(sizes) - sizes
        place = np.arange(len(group)) - first[group]
        self._rows, self._columns = first, np.cumsum(words) - words
        self._word = self._columns[group] + place // 64
        self._bit = np.uint64(1) << (place % 64).astype(np.uint64)
        self.groups, self.words = len(sizes), int(words.sum())

    def prefixes(self, slots: Integers, start: int = 0, stop: int | None = None) -> Words:
        """[..., n + 1, stop - start] Row k is the set of the networks whose slot is below k: its words start ... stop.

        slots [..., n]: 0 ... n-1.
        """
        networks, stop = slots.shape[-1], self.words if stop is None else stop
        found = np.zeros((*slots.shape[:-1], networks + 1, stop - start), dtype=np.uint64)
        flat = found.reshape(-1, networks + 1, stop - start)
        batch = np.arange(len(flat))[:, None]
        inside = slice(*np.searchsorted(self._word, [start, stop]))
        chosen = slots.reshape(-1, networks)[:, inside] + 1
        flat[batch, chosen, self._word[inside] - start] = self._bit[inside]
        np.bitwise_or.accumulate(flat, axis=1, out=flat)
        return found

    def count_rows(self, sets: Words) -> Counts:
        """[..., n, m] The number of networks of each group in each set [..., n, W]."""
        found: Counts = np.add.reduceat(count_bits(sets), self._columns, axis=-1, dtype=np.int64)
        return found

    def count_tables(self, sets: Words) -> Counts:
        """[..., m, m] The number of pairs (i, j), j in the set of i, by the groups of i and of j."""
        return self.sum_words(self.count_words(sets))

    def count_words(self, sets: Words) -> NDArray[np.uint32]:
        """[..., m, w] The bits that are set in words of sets [..., n, w], summed over the networks of each group."""
        found: NDArray[np.uint32] = np.add.reduceat(count_bits(sets), self._rows, axis=-2, dtype=np.uint32)
        return found

    def sum_words(self, counted: NDArray[np.uint32]) -> Counts:
        """[..., m, m] The counts [..., m, W] of all words, summed over the words of each group."""
        found: Counts = np.add.reduceat(counted, self._columns, axis=-1, dtype=np.int64)
        return found


class Ordering:
    """Which networks lie below, and which not above, each network in one variable.

    Args:
        values: [n] in the order of the groups.
    """

    def __init__(self, values: NDArray[Any], bits: GroupBits) -> None:
        order = np.argsort(values, kind="stable")
        ascending = values[order]
        self.slots = np.empty(len(values), dtype=np.intp)
        self.slots[order] = np.arange(len(values))
        self.less = np.searchsorted(ascending, values, side="left").astype(np.intp)
        self.upto = np.searchsorted(ascending, values, side="right").astype(np.intp)
        self.tied = bool((self.upto - self.less > 1).any())
        self._bits = bits

    def sets(self) -> tuple[Words, Words]:
        """[n, W], [n, W] The networks below each network, and those that are not above it."""
        prefixes = self._bits.prefixes(self.slots)
        return prefixes[self.less], prefixes[self.upto]

    def deal(self, places: Integers, start: int, stop: int) -> tuple[Words, Words]:
        """[B, n, w], [B, n, w] The words start ... stop of the same sets where values are dealt out anew.

        Place k holds the value of the network places[b, k]; places [B, n].
        """
        prefixes = self._bits.prefixes(self.slots[places], start, stop)
        batch = np.arange(len(places))[:, None]
        below = prefixes[batch, self.less[places]]
        if not self.tied:
            return below, below  # the network itself is the only other one, and no pair is of one network
        return below, prefixes[batch, self.upto[places]]
