"""Pace: how long cells take, and from that what is left of a run."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharpbench.core.spec import label

if TYPE_CHECKING:
    from sharpbench.cell import Cell

Kind = tuple[str, str, bool]
"""Cells that take about as long as each other: the label of the measure, the population, whether all is asked."""


@dataclass(slots=True)
class _Spent:
    seconds: float = 0.0
    count: int = 0


class Pace:
    """Told which cells begin and end, it says how many seconds the rest will take.

    A cell is expected to take as long as others of its measure and population did on average; before one of them has
    ended, as those of its measure, or as all. `seats`: how many are measured at a time. clock: seconds.
    """

    def __init__(self, cells: Sequence[Cell], *, seats: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.seats, self.clock = max(1, seats), clock
        self.left = Counter(_kind(cell) for cell in cells)
        self.running: dict[str, tuple[Cell, float]] = {}
        self._spent: defaultdict[tuple[object, ...], _Spent] = defaultdict(_Spent)

    def begin(self, cell: Cell) -> None:
        """The cell begins now."""
        self.running[cell.key] = (cell, self.clock())

    def end(self, key: str) -> None:
        """The cell with that key has its record; one that never began, as its network is lost, is not counted."""
        began = self.running.pop(key, None)
        if began is None:
            return
        cell, since = began
        kind = _kind(cell)
        self.left[kind] -= 1
        for whose in (kind, kind[:1], ()):
            self._spent[whose].seconds += self.clock() - since
            self._spent[whose].count += 1

    @property
    def remaining(self) -> int:
        """Cells without a record, those that are being measured included."""
        return sum(self.left.values())

    def drop(self, cell: Cell) -> None:
        """The cell has its record without having begun."""
        self.left[_kind(cell)] -= 1

    def seconds(self) -> float | None:
        """What is left takes so long; None before any cell has ended."""
        if not self._spent:
            return None
        total = sum(count * self._of(kind) for kind, count in self.left.items() if count > 0)
        now = self.clock()
        total -= sum(min(now - since, self._of(_kind(cell))) for cell, since in self.running.values())
        return max(0.0, total) / min(self.seats, max(1, self.remaining))

    def _of(self, kind: Kind) -> float:
        spent = next(self._spent[whose] for whose in (kind, kind[:1], ()) if whose in self._spent)
        return spent.seconds / spent.count


def _kind(cell: Cell) -> Kind:
    return label(cell.measure), cell.population, cell.timed or cell.checked or cell.rewritten
