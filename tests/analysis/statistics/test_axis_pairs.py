"""Sums over the pairs along an axis, against going through the pairs."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from sharpbench.analysis.statistics import axis_pairs
from sharpbench.analysis.statistics.axis_pairs import sum_pairs_along
from sharpbench.analysis.statistics.inputs import combine_codes


@pytest.mark.parametrize("at_once", [1, 7, 2**18])
@pytest.mark.parametrize("name", ["a", "b"])
def test_sums_are_those_of_going_through_the_pairs(name: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axis_pairs, "MAX_PAIRS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    columns = {axis: rng.integers(0, 3, 17) for axis in ("a", "b")}
    cells = combine_codes(list(columns.values()), 17)
    weights = rng.standard_normal((17, 17))
    held = []

    def values(one: Any, other: Any) -> list[Any]:
        held.append(np.broadcast(one, other).size)
        return [weights[one, other], weights[one, other] ** 2]

    found = sum_pairs_along(columns, name, cells, values)
    others = next(codes for axis, codes in columns.items() if axis != name)
    expected: dict[tuple[int, int], Any] = {}
    for i, j in permutations(range(17), 2):
        if columns[name][i] != columns[name][j] and others[i] == others[j]:
            entry = expected.setdefault((i, int(cells[j])), np.zeros(3))
            entry += [1, weights[i, j], weights[i, j] ** 2]
    entries = zip(found.network.tolist(), found.partner.tolist(), strict=True)
    sums = dict(zip(entries, np.stack([found.pairs, *found.sums], axis=1), strict=True))
    assert sums.keys() == expected.keys()
    for entry, each in expected.items():
        np.testing.assert_allclose(sums[entry], each, atol=1e-12)
    assert max(held) <= max(at_once, int(np.bincount(others).max()))  # never all pairs


def test_no_pair_gives_no_entry() -> None:
    columns = {"a": np.array([0, 1]), "b": np.array([0, 1])}
    found = sum_pairs_along(
        columns, "a", np.array([0, 1]), lambda one, other: [np.ones(np.broadcast(one, other).shape)]
    )
    assert (len(found.network), found.sums.shape) == (0, (1, 0))
