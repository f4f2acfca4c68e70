"""Training curves: thinned while they grow, and refused where they are none."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from sharpbench.core.curve import MAX_CURVE_POINTS, Curve, curve_error, extend_curve


@pytest.mark.parametrize("epochs", [1, 2, 48, 49, 50, 97, 1000, 12_345])
def test_a_curve_has_the_first_epoch_the_last_and_few_between(epochs: int) -> None:
    curve: Curve = {}
    for epoch in range(1, epochs + 1):
        curve = extend_curve(curve, epoch, 3.0 / epoch)
        assert not curve_error(curve)
    kept = list(map(int, curve))
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (1, epochs)
    assert min(epochs, MAX_CURVE_POINTS // 2) <= len(kept) <= MAX_CURVE_POINTS
    assert len({later - epoch for epoch, later in pairwise(kept[1:-1])}) <= 1, "even steps"
    assert all(curve[str(epoch)] == pytest.approx(3.0 / epoch, rel=5e-4) for epoch in kept)


def test_a_loss_that_is_not_finite_is_none() -> None:
    assert extend_curve({"1": 2.5}, 2, math.nan) == {"1": 2.5, "2": None}
    assert extend_curve({}, 1, math.inf) == {"1": None}


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ([1.0], "is not a dictionary"),
        ({"1": "low"}, "has 1='low', which is not a number"),
        ({"1": math.inf}, "has 1=inf, which is not finite"),
        ({"0": 1.0}, "has the epoch '0', which is not a whole number from 1"),
        ({"1.5": 1.0}, "has the epoch '1.5', which is not a whole number from 1"),
        ({str(epoch): 1.0 for epoch in range(1, 52)}, "has 51 points, more than 50"),
    ],
)
def test_what_is_no_curve_is_named(curve: Any, message: str) -> None:
    assert curve_error(curve) == message
