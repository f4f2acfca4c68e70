"""Sharding: the part of a plan that one of several commands runs, chosen by content."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharpbench.errors import InvalidInput, short

if TYPE_CHECKING:
    from sharpbench.cell import Cell

MOST = 10**6


@dataclass(frozen=True, slots=True)
class Shard:
    """The `index`-th of `count` parts of a plan, from 1; a network's cells are all in one part.

    Which one depends on the hash of the network alone: more measures or networks move none that were there.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count <= MOST:
            bounds = f"from 1/{self.count} to {self.count}/{self.count}"
            raise InvalidInput(f"shard {self.index}/{self.count} must be {bounds}, of at most {MOST}")

    @staticmethod
    def parsed(text: str) -> Shard:
        """The shard that '3/8' names."""
        found = re.fullmatch(r"([0-9]{1,7})/([0-9]{1,7})", text)
        if found is None:
            raise InvalidInput(f"shard '{short(text)}' is no part of a whole; write 3/8 for the third of eight")
        return Shard(int(found[1]), int(found[2]))

    def holds(self, cell: Cell) -> bool:
        """Whether the cell is in this part."""
        return int(cell.network_key, 16) % self.count == self.index - 1
