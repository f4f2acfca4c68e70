"""Row and column scales: against generic optimisers, closed forms, bounds, and what can be driven to 0."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import minimize

from sharpbench.symmetry import ScaledMatrix, scale_columns, scale_rows_and_columns

Solve = Callable[[np.ndarray, np.ndarray], ScaledMatrix]


def pair(seed: int, shape: tuple[int, int] = (5, 7)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(size=shape) * 2), rng.normal(size=shape) ** 2


def rows_and_columns(D: np.ndarray, V: np.ndarray, logarithms: np.ndarray) -> float:
    scale = np.exp(np.add.outer(logarithms[: len(D)], logarithms[len(D) :]))
    return float((D * scale + V / scale).sum())


@pytest.mark.parametrize("seed", range(4))
def test_rows_and_columns_reach_the_generic_minimum(seed: int) -> None:
    D, V = pair(seed)
    best = minimize(lambda x: np.log(rows_and_columns(D, V, x)), np.zeros(12), method="BFGS", options={"gtol": 1e-9})
    solved = scale_rows_and_columns(D, V)
    assert solved.value == pytest.approx(np.exp(best.fun), rel=1e-9)
    assert solved.gradient <= 1e-11
    assert 2 * np.sqrt(D * V).sum() <= solved.value <= 2 * np.sqrt(D.sum() * V.sum())


@pytest.mark.parametrize("seed", range(4))
def test_columns_reach_the_generic_minimum(seed: int) -> None:
    D, V = pair(seed)

    def logarithm(x: np.ndarray) -> float:
        return float(np.log(((D @ np.exp(x)) * (V @ np.exp(-x))).sum()) / 2)

    best = minimize(
        logarithm,
        np.zeros(7),
        method="Nelder-Mead",
        options={"fatol": 1e-15, "xatol": 1e-9, "maxiter": 50_000, "maxfev": 50_000},
    )
    solved = scale_columns(D, V)
    assert solved.value == pytest.approx(np.exp(best.fun), rel=1e-9)
    assert solved.value >= np.sqrt((np.sqrt(D * V).sum(1) ** 2).sum()) * (1 - 1e-12)


def test_rank_one_pairs_and_scalars_have_closed_forms() -> None:
    rng = np.random.default_rng(0)
    D, V = (np.outer(rng.random(4) + 0.1, rng.random(6) + 0.1) for _ in range(2))
    assert scale_rows_and_columns(D, V).value == pytest.approx(2 * np.sqrt(D * V).sum(), rel=1e-12)
    assert scale_rows_and_columns(np.array([[4.0]]), np.array([[9.0]])).value == pytest.approx(12.0)


@pytest.mark.parametrize("solve", [scale_rows_and_columns, scale_columns])
def test_scaling_rows_and_columns_changes_nothing(solve: Solve) -> None:
    D, V = pair(1)
    rng = np.random.default_rng(5)
    factor = np.outer(np.exp(rng.normal(size=5)), np.exp(rng.normal(size=7)))
    assert solve(D / factor, V * factor).value == pytest.approx(solve(D, V).value, rel=1e-9)


@pytest.mark.parametrize("solve", [scale_rows_and_columns, scale_columns])
def test_dead_rows_and_columns_count_for_nothing(solve: Solve) -> None:
    D, V = pair(2)
    D[1] = 0.0
    V[:, 3] = 0.0
    alive = np.ix_([0, 2, 3, 4], [0, 1, 2, 4, 5, 6])
    solved = solve(D, V)
    assert solved.value == pytest.approx(solve(D[alive], V[alive]).value, rel=1e-9)
    assert solved.dropped == 6 + 4
    assert solve(np.zeros((2, 3)), np.ones((2, 3))) == ScaledMatrix(0.0, 0.0, 6, 0)


def test_scattered_zeros_are_driven_to_zero_where_they_can_be() -> None:
    """D and V block triangular the opposite way: the block off the diagonal shrinks as the scales part."""
    D = np.array([[1.0, 2.0], [0.0, 3.0]])
    V = np.array([[4.0, 0.0], [5.0, 6.0]])
    solved = scale_rows_and_columns(D, V)
    assert solved.value == pytest.approx(2 * np.sqrt(4.0) + 2 * np.sqrt(18.0))
    assert solved.dropped == 2
    values = [
        minimize(
            lambda x, far=far: rows_and_columns(D, V, np.array([x[0], x[1] + far, x[2], x[3] - far])), np.zeros(4)
        ).fun
        for far in (0.0, 4.0)
    ]
    assert values[1] >= solved.value - 1e-9
