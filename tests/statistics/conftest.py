"""Populations of networks on designed grids, drawn again and again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Drawn = tuple[Floats, Floats, NDArray[np.intp]]


def draw(kind: str, rng: np.random.Generator, *, configurations: int, networks: int) -> Drawn:
    """A measure, the gap and the cells of one population."""
    cells = np.repeat(np.arange(configurations), networks)
    noise, other = rng.standard_normal((2, len(cells)))
    gap = 0.7 * cells + noise
    if kind == "moderate":
        return gap - 0.5 * noise + other, gap, cells
    if kind == "independent":
        return other, noise, cells
    if kind == "confounded":
        return 5 * cells + other, 5 * cells + noise, cells
    if kind == "strong":
        return np.exp(gap + 0.3 * other), gap, cells
    if kind == "nearly perfect":
        return gap + 0.07 * other, gap, cells
    if kind == "negative":
        return -gap + 0.5 * other, gap, cells
    if kind == "heavy tails":
        gap = 0.7 * cells + rng.standard_t(2, len(cells))
        return 0.7 * cells + 0.5 * gap + rng.standard_t(2, len(cells)), gap, cells
    if kind == "unequal spread":
        return cells + 0.5 * noise * (cells - configurations / 2) + other, 0.7 * cells + noise * (1 + cells), cells
    if kind == "ties":
        return gap - 0.5 * noise + other, np.round(gap), cells
    raise ValueError(kind)


KINDS = (
    "moderate", "independent", "confounded", "strong", "nearly perfect",
    "negative", "heavy tails", "unequal spread", "ties",
)  # fmt: skip


@pytest.fixture
def population() -> Callable[..., Drawn]:
    return draw
