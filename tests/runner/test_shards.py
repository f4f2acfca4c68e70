"""Shards: every network in exactly one, whatever else is planned."""

from __future__ import annotations

import pytest

from sharpbench import InvalidInput, plan
from sharpbench.runner.cell import Shard


def test_every_network_is_in_one_shard_and_stays_there() -> None:
    options = {"cohort": "label-noise[ratios=3,seeds=8]", "device": "cpu"}
    cells = plan("parameter-norm,gradient-norm", "small-mlp", **options)
    shards = [Shard(index, 3) for index in (1, 2, 3)]
    where = {cell.recipe: [shard.holds(cell) for shard in shards] for cell in cells}
    assert all(sum(held) == 1 for held in where.values())
    assert all(any(held[index] for held in where.values()) for index in range(3))
    for cell in plan("trace", "small-mlp,mlp", **options):  # further measures and models move no network
        if cell.recipe in where:
            assert where[cell.recipe] == [shard.holds(cell) for shard in shards]
    assert all(Shard(1, 1).holds(cell) for cell in cells)


def test_a_shard_is_read() -> None:
    assert Shard.parse("3/8") == Shard(3, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0/8", "shard 0/8 must be from 1/8 to 8/8"),
        ("9/8", "shard 9/8 must be from 1/8 to 8/8"),
        ("3", "shard '3' is not a part of a whole; write 3/8 for the third of eight"),
        ("1/2/3", "is not a part of a whole"),
        ("-1/2", "is not a part of a whole"),
        ("1/9999999", "shard 1/9999999 must be from"),
    ],
)
def test_what_is_no_shard_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Shard.parse(text)
