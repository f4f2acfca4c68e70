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
Counts = NDArray[np.int64]

MAX_WORDS_AT_ONCE = 2**15
"""Words of sets that are compared at once, so that they fit in a processor's cache."""
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
        group: As given.
        words: W, the number of words of a set of networks.
    """

    def __init__(self, group: Integers) -> None:
        sizes = np.bincount(group)
        words = -(-sizes // 64)
        first = np.cumsum(sizes) - sizes
        place = np.arange(len(group)) - first[group]
        self.group, self._columns = group, np.cumsum(words) - words
        self._word = self._columns[group] + place // 64
        self._bit = np.uint64(1) << (place % 64).astype(np.uint64)
        self.words = int(words.sum())

    def prefixes(self, slots: Integers) -> Words:
        """[n + 1, W] Row k is the set of the networks whose slot is below k; slots [n]: 0 ... n-1."""
        found = np.zeros((len(slots) + 1, self.words), dtype=np.uint64)
        found[slots + 1, self._word] = self._bit
        np.bitwise_or.accumulate(found, axis=0, out=found)
        return found

    def count_rows(self, sets: Words) -> Counts:
        """[n, m] The number of networks of each group in each set [n, W]."""
        found: Counts = np.add.reduceat(count_bits(sets), self._columns, axis=-1, dtype=np.int64)
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

    def count_below(self) -> tuple[Counts, Counts]:
        """[n, m], [n, m] The networks of each group below each network, and those that are not above it."""
        group = self._bits.group
        counts = np.zeros((len(group) + 1, int(group[-1]) + 1), dtype=np.int64)
        counts[self.slots + 1, group] = 1
        np.cumsum(counts, axis=0, out=counts)
        return counts[self.less], counts[self.upto]

    def count_common(self, other: Ordering) -> tuple[Counts, Counts, Counts, Counts]:
        """Four [n, m]: the networks of each group that two orders have below, or not above, each network.

        Below in both; not above in both; not above in this one and below in the other; below in this one and not above
        in the other.
        """
        own, others = self._bits.prefixes(self.slots), self._bits.prefixes(other.slots)
        networks, group = len(self.slots), self._bits.group
        below, upto_other = (np.empty((networks, int(group[-1]) + 1), dtype=np.int64) for _ in range(2))
        upto, upto_own = (np.empty_like(below), np.empty_like(below)) if self.tied else (below, below)
        step = max(1, MAX_WORDS_AT_ONCE // self._bits.words)
        for start in range(0, networks, step):
            rows = slice(start, start + step)
            below_own, below_others, upto_others = (
                own[self.less[rows]],
                others[other.less[rows]],
                others[other.upto[rows]],
            )
            below[rows] = self._bits.count_rows(below_own & below_others)
            upto_other[rows] = self._bits.count_rows(below_own & upto_others)
            if self.tied:
                not_above = own[self.upto[rows]]
                upto_own[rows] = self._bits.count_rows(not_above & below_others)
                upto[rows] = self._bits.count_rows(not_above & upto_others)
        if not self.tied:  # the network itself is the only other one
            upto = upto_other.copy()
            upto[np.arange(networks), group] += 1
        return below, upto, upto_own, upto_other
