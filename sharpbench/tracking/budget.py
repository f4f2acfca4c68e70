"""The share of a loop's time that measuring may take, kept by measuring less often."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from sharpbench.errors import InvalidInput


@dataclass(slots=True)
class TimeBudget:
    """The seconds that a loop has spent in training and in measuring.

    share: measuring seconds per training second at most; None for no bound. The first measurement is always made.
    """

    share: float | None
    training: float = 0.0
    measuring: float = 0.0
    last: float | None = None
    _left: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        valid = self.share is None or (isinstance(self.share, int | float) and 0 < self.share <= 1)
        if not valid or isinstance(self.share, bool):
            raise InvalidInput(
                f"budget={self.share} must be a share of the training time above 0 and at most 1, or None"
            )

    def enter(self) -> None:
        """The loop calls the tracker: what passed since it was left is training."""
        now = time.perf_counter()
        if self._left is not None:
            self.training += now - self._left

    def leave(self) -> None:
        """The tracker returns to the loop."""
        self._left = time.perf_counter()

    def allows(self) -> bool:
        """Whether one more measurement, as long as the last one, keeps the share."""
        if self.share is None or self.last is None:
            return True
        return self.measuring + self.last <= self.share * self.training

    def spend(self, seconds: float) -> None:
        """Note a measurement."""
        self.measuring += seconds
        self.last = seconds

    def extend(self, seconds: float) -> None:
        """Note what a measurement took besides, to write its row."""
        self.measuring += seconds
        self.last = (self.last or 0.0) + seconds

    @property
    def spent_share(self) -> float | None:
        """Measuring seconds per training second so far; None before there is any training."""
        return self.measuring / self.training if self.training > 0 else None

    def __getstate__(self) -> tuple[Any, ...]:
        """A pause between pickling and unpickling is not training."""
        return self.share, self.training, self.measuring, self.last

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.share, self.training, self.measuring, self.last = state
        self._left = None
