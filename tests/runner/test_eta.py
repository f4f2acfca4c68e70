"""The estimate of the time left: from the means of cells of the same kind, with slots and running cells counted."""

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
    eta = EtaEstimator(CELLS, slots=1, clock=clock)
    assert (eta.remaining, eta.seconds()) == (12, None)
    norm, slope = CELLS[:2]
    eta.start(norm)
    clock.now = 3.0
    eta.end(norm.key)
    assert (eta.remaining, eta.seconds()) == (11, 33.0)  # the other measure as this one
    eta.start(slope)
    clock.now = 13.0
    eta.end(slope.key)
    assert (eta.remaining, eta.seconds()) == (10, 5 * 3.0 + 5 * 10.0)
    eta.start(CELLS[2])
    clock.now = 14.0
    assert eta.seconds() == 64.0  # one second of it is over
    clock.now = 99.0
    assert eta.seconds() == 62.0  # no more than was expected
    eta.drop(CELLS[4])
    assert (eta.remaining, eta.seconds()) == (9, 59.0)
    eta.end("no such key")
    assert eta.remaining == 9


def test_slots_share_the_rest() -> None:
    clock = Clock()
    eta = EtaEstimator(CELLS, slots=4, clock=clock)
    eta.start(CELLS[0])
    clock.now = 2.0
    eta.end(CELLS[0].key)
    assert eta.seconds() == pytest.approx(22.0 / 4)
    for cell in CELLS[1:]:
        eta.drop(cell)
    assert (eta.remaining, eta.seconds()) == (0, 0.0)
