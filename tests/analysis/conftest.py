"""Synthetic records for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sharpbench.core.record import Record
from tests.synthetic import cohort, make


@pytest.fixture
def record() -> Callable[..., Record]:
    return make


@pytest.fixture
def records() -> Callable[..., list[Record]]:
    return cohort
