"""The forecast: from the means of cells of the same kind, seats and what runs taken into account."""

from __future__ import annotations

import pytest

from sharpbench import plan
from sharpbench.runner.status import EtaEstimator

CELLS = plan(
    "parameter-norm,gradient-norm", "small-mlp", cohort="label-noise[ratios=2,seeds=3]", device="cpu", timing=0,
    oracle=0, invariance=0,
)  # fmt: skip


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_rest_takes_as_long_as_its_kind() -> None:
    clock = Clock()
    pace = EtaEstimator(CELLS, seats=1, clock=clock)
    assert (pace.remaining, pace.seconds()) == (12, None)
    norm, slope = CELLS[:2]
    pace.begin(norm)
    clock.now = 3.0
    pace.end(norm.key)
    assert (pace.remaining, pace.seconds()) == (11, 33.0)  # the other measure as this one
    pace.begin(slope)
    clock.now = 13.0
    pace.end(slope.key)
    assert (pace.remaining, pace.seconds()) == (10, 5 * 3.0 + 5 * 10.0)
    pace.begin(CELLS[2])
    clock.now = 14.0
    assert pace.seconds() == 64.0  # one second of it is over
    clock.now = 99.0
    assert pace.seconds() == 62.0  # no more than was expected
    pace.drop(CELLS[4])
    assert (pace.remaining, pace.seconds()) == (9, 59.0)
    pace.end("no such key")
    assert pace.remaining == 9


def test_seats_share_the_rest() -> None:
    clock = Clock()
    pace = EtaEstimator(CELLS, seats=4, clock=clock)
    pace.begin(CELLS[0])
    clock.now = 2.0
    pace.end(CELLS[0].key)
    assert pace.seconds() == pytest.approx(22.0 / 4)
    for cell in CELLS[1:]:
        pace.drop(cell)
    assert (pace.remaining, pace.seconds()) == (0, 0.0)
