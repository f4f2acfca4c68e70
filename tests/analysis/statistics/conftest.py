"""Populations of networks, drawn again and again: cells of one hyperparameter, and grids of several."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Drawn = tuple[Floats, Floats, NDArray[np.intp]]
OnGrid = tuple[Floats, Floats, dict[str, list[int]]]


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


def draw_grid(kind: str, rng: np.random.Generator, *, shape: tuple[int, ...], networks: int) -> OnGrid:
    """A measure, the gap and the axes a0, a1, ... of one population: all combinations, `networks` each."""
    grid = np.repeat(np.array(list(product(*map(range, shape)))), networks, axis=0)
    axes = {f"a{number}": [int(value) for value in column] for number, column in enumerate(grid.T)}
    noise, other = rng.standard_normal((2, len(grid)))
    effect = grid @ np.array([1.0, 0.5, 0.25])[: len(shape)]
    gap = effect + noise
    if kind == "moderate":
        return gap - 0.5 * noise + other, gap, axes
    if kind == "independent":
        return other, gap, axes
    if kind == "strong":
        return np.exp(gap + 0.3 * other), gap, axes
    if kind == "nearly perfect":
        return gap + 0.05 * other, gap, axes
    if kind == "confounded":
        return 5 * grid[:, 0] + other, 5 * grid[:, 0] + noise, axes
    if kind == "ties":
        return np.round(gap + other), np.round(gap), axes
    if kind == "negative":
        return -gap + other, gap, axes
    if kind == "heavy tails":
        gap = effect + rng.standard_t(2, len(grid))
        return gap + rng.standard_t(2, len(grid)), gap, axes
    raise ValueError(kind)


KINDS = (
    "moderate", "independent", "confounded", "strong", "nearly perfect",
    "negative", "heavy tails", "unequal spread", "ties",
)  # fmt: skip


@pytest.fixture
def population() -> Callable[..., Drawn]:
    return draw


@pytest.fixture
def grid() -> Callable[..., OnGrid]:
    return draw_grid
