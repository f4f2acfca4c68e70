"""Simulated populations for benchmarks/coverage.py: designs, and laws of a measure and its gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Networks by cell.

    Args:
        sizes: Networks of each cell.
        shape: The grid that the cells fill; None for one hyperparameter.
        missing: The share of networks that are absent, at random.
        drawn: Whether the configurations are drawn anew with their networks.
    """

    sizes: tuple[int, ...]
    shape: tuple[int, ...] | None = None
    missing: float = 0.0
    drawn: bool = False

    @property
    def cells(self) -> Integers:
        """[n] The cell of each network."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @property
    def grid(self) -> Integers:
        """[K, axes] The values of the hyperparameters of each cell."""
        return np.array(list(product(*map(range, self.shape or (len(self.sizes),)))), dtype=np.intp)


DESIGNS = {
    "8": Design((8,)),
    "15": Design((15,)),
    "2x6": Design((6,) * 2),
    "3x5": Design((5,) * 3),
    "5x3": Design((3,) * 5),
    "8x3": Design((3,) * 8),
    "5x5": Design((5,) * 5),
    "11x5": Design((5,) * 11),
    "3x20": Design((20,) * 3),
    "6x50": Design((50,) * 6),
    "5+10": Design((5, 10)),
    "5+30": Design((5, 30)),
    "3+3+20": Design((3, 3, 20)),
    "5+20+20": Design((5, 20, 20)),
    "5+8+11+14": Design((5, 8, 11, 14)),
    "20+280": Design((20, 280)),
    "5x8-20%": Design((8,) * 5, missing=0.2),
    "3x3 of 3": Design((3,) * 9, (3, 3)),
    "3x3 of 5": Design((5,) * 9, (3, 3)),
    "2x2x2 of 4": Design((4,) * 8, (2, 2, 2)),
    "2x2 of 3+3+20+20": Design((3, 3, 20, 20), (2, 2)),
    "2x2 of 5+5+30+30": Design((5, 5, 30, 30), (2, 2)),
    "2x2 of 5+20+20+20": Design((5, 20, 20, 20), (2, 2)),
    "20 drawn of 3": Design((3,) * 20, drawn=True),
}


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One population: a measure, its gap, cells, axes, and the units where configurations are drawn."""

    x: Floats
    y: Floats
    cells: Integers
    axes: dict[str, list[int]]
    units: Integers | None


@dataclass(frozen=True, slots=True, eq=False)
class _Noise:
    """What a law makes a population of: effects [n] of the cells in [-1, 1], spreads, and independent normal noise."""

    effect: Floats
    cell: Integers
    gap: Floats
    measure: Floats
    rng: np.random.Generator

    @property
    def place(self) -> Floats:
        """[n] From 0 for the first cell to 1 for the last; random where there is one cell."""
        last = int(self.cell.max())
        return self.cell / last if last else self.rng.random(len(self.cell))


Law = Callable[[_Noise], tuple[Floats, Floats]]


def _unequal(noise: _Noise) -> tuple[Floats, Floats]:
    spread = 0.05 * 100**noise.place
    return noise.effect + spread * 0.7 * (noise.gap + noise.measure), noise.effect + spread * noise.gap


def _unequal_measure(noise: _Noise) -> tuple[Floats, Floats]:
    spread = 0.01 * 1000**noise.place
    return noise.effect + noise.gap + spread * noise.measure, noise.effect + noise.gap


LAWS: Mapping[str, Law] = {
    "independent": lambda each: (each.measure, each.gap),
    "moderate": lambda each: (each.effect + each.gap + each.measure, each.effect + each.gap),
    "strong": lambda each: (each.effect + each.gap + 0.3 * each.measure, each.effect + each.gap),
    "nearly perfect": lambda each: (each.effect + each.gap + 0.02 * each.measure, each.effect + each.gap),
    "perfect": lambda each: (each.effect + each.gap, each.effect + each.gap),
    "negative": lambda each: (0.5 * each.measure - each.gap, each.effect + each.gap),
    "confounder": lambda each: (3 * each.effect + each.measure, 3 * each.effect + each.gap),
    "strong confounder": lambda each: (10 * each.effect + each.measure, 10 * each.effect + each.gap),
    "confounder and strong": lambda each: (
        3 * each.effect + each.gap + 0.3 * each.measure,
        3 * each.effect + each.gap,
    ),
    "ties": lambda each: (np.round(each.gap + 0.7 * each.measure), np.round(each.gap)),
    "ties, independent": lambda each: (np.round(each.measure), np.round(each.gap)),
    "ties of the gap": lambda each: (each.gap + 0.5 * each.measure, np.round(0.7 * each.gap)),
    "gap of two values": lambda each: (each.gap + 0.5 * each.measure, (each.gap > 0.8) * 1.0),
    "measure of two values": lambda each: ((each.gap + 0.5 * each.measure > 0.8) * 1.0, each.gap),
    "measure mostly constant": lambda each: (
        np.where(each.rng.random(len(each.gap)) < 0.85, 0.0, each.gap),
        each.gap,
    ),
    "gap of 360 examples": lambda each: (
        0.02 * each.effect + 0.05 * each.gap + 0.02 * each.measure,
        np.round((0.02 * each.effect + 0.05 * each.gap) * 360) / 360,
    ),
    "unequal spread": _unequal,
    "unequal spread of the measure": _unequal_measure,
    "reversed in half": lambda each: (
        np.where(each.cell % 2, 1.0, -1.0) * each.gap + 0.3 * each.measure,
        each.effect + each.gap,
    ),
    "heavy tails": lambda each: (
        each.gap + 0.3 * each.rng.standard_cauchy(len(each.gap)),
        each.gap + 0.1 * each.rng.standard_cauchy(len(each.gap)),
    ),
    "fails on a tenth": lambda each: (
        np.where(each.rng.random(len(each.gap)) < 0.1, 10 * each.measure, each.gap),
        each.gap,
    ),
    "not monotone": lambda each: (each.gap**2 + 0.3 * each.measure, each.gap),
    "lognormal": lambda each: (np.exp(2 * (each.gap + each.measure)), np.exp(2 * each.gap)),
}


def draw_population(design: Design, law: str, rng: np.random.Generator) -> Draw:
    """A population of the design and law; the networks that are missing are left out."""
    cells, grid = design.cells, design.grid
    if design.missing:
        cells = cells[rng.random(len(cells)) >= design.missing]
    if design.drawn:
        effects = rng.standard_normal(len(design.sizes))
    else:
        level = (grid / np.maximum(grid.max(axis=0), 1)).mean(axis=1)
        effects = 2 * level - 1 if len(grid) > 1 else np.zeros(1)
    gap, measure = rng.standard_normal((2, len(cells)))
    x, y = LAWS[law](_Noise(effects[cells], cells, gap, measure, rng))
    axes = {f"a{number}": [int(value) for value in column] for number, column in enumerate(grid[cells].T)}
    return Draw(x, y, cells, axes, cells if design.drawn else None)
