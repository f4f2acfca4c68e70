"""Cells and axes as codes."""

from __future__ import annotations

import numpy as np
import pytest

from sharpbench.analysis.statistics.inputs import combine_codes


@pytest.mark.parametrize("values", [(3,), (2, 5), (4, 1, 3, 2)])
def test_combinations_are_numbered_in_their_order(values: tuple[int, ...]) -> None:
    """As np.unique numbers the columns of their table."""
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, count, 60) for count in values]
    codes = combine_codes(columns, 60)
    assert codes.tolist() == np.unique(np.stack(columns), axis=1, return_inverse=True)[1].ravel().tolist()
    assert codes.dtype == np.intp


def test_without_a_column_there_is_one_combination() -> None:
    assert combine_codes([], 4).tolist() == [0, 0, 0, 0]
