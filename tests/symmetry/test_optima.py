"""The convex solves against optima that are known beforehand, by construction: no other optimiser is trusted."""

from __future__ import annotations

import numpy as np
import pytest

from sharpbench.symmetry import ScaledMatrix, minimise, scale_columns, scale_rows_and_columns
from sharpbench.symmetry.minimum.layers import GAP_TOLERANCE

Array = np.ndarray


def chain(layers: int) -> Array:
    """Log-scales of weights, u_l - u_{l-1}, and biases, u_l, with u_0 = u_L = 0."""
    cumulative = np.vstack((np.zeros(layers - 1), np.eye(layers - 1), np.zeros(layers - 1)))
    return np.vstack((np.diff(cumulative, axis=0), cumulative[1:]))


def balanced(layers: int, seed: int, *, shares: float, scales: float) -> tuple[Array, Array, Array, Array]:
    """Basis, traces, the terms p at the minimum and the minimiser u.

    The minimum of sum t exp(-2 B u) is where B^T p = 0 for its terms p: in a chain, where the term of each weight
    is that of the weight before it and of the bias between them. So p is drawn first, then u, and t = p exp(2 B u).
    """
    rng = np.random.default_rng(seed)
    biases = np.exp(rng.normal(size=layers) * shares)
    weights = np.exp(rng.normal()) + np.concatenate(([0.0], np.cumsum(biases[:-1])))
    p = np.concatenate((weights, biases))
    u = rng.normal(size=layers - 1) * scales
    basis = chain(layers)
    assert np.abs(basis.T @ p).max() < 1e-12 * p.max() * layers
    return basis, p * np.exp(2 * basis @ u), p, u


@pytest.mark.parametrize("scales", [0.1, 1.0, 5.0, 10.0])
@pytest.mark.parametrize("shares", [0.5, 3.0, 10.0])
@pytest.mark.parametrize("layers", [2, 3, 5, 12, 30])
def test_the_minimum_is_the_one_that_was_built(layers: int, shares: float, scales: float) -> None:
    for seed in range(2):
        basis, traces, p, u = balanced(layers, seed, shares=shares, scales=scales)
        solved = minimise(traces, basis)
        assert solved.value == pytest.approx(p.sum(), rel=1e-12)
        assert solved.method == "newton"
        assert solved.vanishing == ()
        assert solved.gap <= 10 * GAP_TOLERANCE
        np.testing.assert_allclose(solved.terms, p, atol=1e-6 * p.sum(), rtol=0)
        assert (traces * np.exp(-2 * basis @ solved.u)).sum() == pytest.approx(p.sum(), rel=1e-10)
        assert solved.value <= traces.sum() * (1 + 1e-12)
        if shares < 1 and scales <= 1:
            np.testing.assert_allclose(solved.u, u, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("seed", range(4))
def test_the_gap_bounds_the_error_of_a_solve_that_was_cut_short(
    steps: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    basis, traces, p, _ = balanced(6, seed, shares=1.0, scales=0.3)
    monkeypatch.setattr("sharpbench.symmetry.minimum.layers.MAX_STEPS", steps)
    solved = minimise(traces, basis)
    error = np.log(solved.value / p.sum())
    assert -1e-13 <= error <= solved.gap + 1e-13
    assert solved.steps <= steps
    if steps == 1:
        assert solved.gap > 1e-9  # there is an error to bound


def test_more_steps_make_the_gap_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    basis, traces, _, _ = balanced(6, 0, shares=1.0, scales=2.0)
    gaps = []
    for steps in (1, 4, 8, 50):
        monkeypatch.setattr("sharpbench.symmetry.minimum.layers.MAX_STEPS", steps)
        gaps.append(minimise(traces, basis).gap)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] <= 10 * GAP_TOLERANCE


@pytest.mark.parametrize("factor", [1e-200, 1e-30, 1e30, 1e200])
def test_the_minimum_is_proportional_to_the_traces(factor: float) -> None:
    basis, traces, p, _ = balanced(5, 1, shares=1.0, scales=1.0)
    solved = minimise(traces * factor, basis)
    assert solved.value == pytest.approx(p.sum() * factor, rel=1e-12)
    np.testing.assert_allclose(solved.terms, minimise(traces, basis).terms * factor, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_transformed_traces_have_the_same_minimum_in_any_coordinates(seed: int) -> None:
    """t_b exp(-2 (B u)_b) are the traces of the rescaled network; B R spans the same group for any invertible R."""
    rng = np.random.default_rng(seed)
    basis, traces, p, _ = balanced(5, seed, shares=1.0, scales=1.0)
    for size in (0.1, 1.0, 8.0):
        moved = traces * np.exp(-2 * basis @ (rng.normal(size=4) * size))
        assert minimise(moved, basis).value == pytest.approx(p.sum(), rel=1e-12)
    mixed = basis @ rng.normal(size=(4, 4))
    solved = minimise(traces, mixed)
    assert solved.value == pytest.approx(p.sum(), rel=1e-12)
    assert (traces * np.exp(-2 * mixed @ solved.u)).sum() == pytest.approx(p.sum(), rel=1e-9)
    redundant = minimise(traces, np.hstack((basis, basis[:, :1] + basis[:, 1:2], np.zeros((10, 1)))))
    assert redundant.value == pytest.approx(p.sum(), rel=1e-12)
    assert redundant.u.shape == (6,)
    order = rng.permutation(10)
    np.testing.assert_allclose(minimise(traces[order], basis[order]).terms, solved.terms[order], rtol=1e-6)


def test_a_weighted_closed_form_is_that_of_weighted_means() -> None:
    """One scale that acts twice on the first block: t0 e^-4u + t1 e^2u is least where 2 t0 e^-4u = t1 e^2u."""
    basis, (one, other) = np.array([[2.0], [-1.0]]), (3.0, 0.7)
    solved = minimise(np.array([one, other]), basis)
    x = (2 * one / other) ** (1 / 6)  # e^u
    assert solved.method == "closed form"
    assert solved.value == pytest.approx(one * x**-4 + other * x**2, rel=1e-13)
    assert solved.u == pytest.approx([np.log(x)], rel=1e-12)
    assert solved.terms == pytest.approx([one * x**-4, other * x**2], rel=1e-12)


@pytest.mark.parametrize("dead", range(8))
def test_any_single_dead_block_of_a_chain(dead: int) -> None:
    """Against walking far out: the infimum is never undercut, and is approached as one walks.

    Chain of four layers: weights 0 to 3, biases 4 to 7. A dead weight l lets u_1..u_l grow together for free: the
    weights and biases before it shrink. Without weight 0 to hold them nothing changes: dead biases free nothing.
    """
    basis, traces, _, _ = balanced(4, dead, shares=1.0, scales=0.5)
    traces[dead] = 0.0
    solved = minimise(traces, basis)
    expected = (0, *(range(1, dead)), *(range(4, 4 + dead))) if 0 < dead < 4 else ()
    assert solved.vanishing == expected
    assert solved.terms[[*expected, dead]].tolist() == [0.0] * (len(expected) + 1)

    def nearest(far: float) -> float:
        """The least value with the shared direction held at `far`, by Newton's method on the remaining blocks."""
        fixed = traces * np.exp(-2 * basis[:, :dead].sum(1) * far)
        values = [
            (fixed * np.exp(-2 * basis @ step)).sum() for step in np.random.default_rng(0).normal(size=(2000, 3)) * 0.3
        ]
        return float(min(values))

    sampled = [nearest(far) for far in ((0.0,) if not expected else (0.0, 2.0, 6.0))]
    assert min(sampled) >= solved.value * (1 - 1e-12)
    if expected:
        keep = [block for block in range(8) if block not in expected and traces[block] > 0]
        rest = minimise(traces[keep], basis[keep])
        assert rest.vanishing == ()
        assert solved.value == pytest.approx(rest.value, rel=1e-12)
        walked = traces * np.exp(-2 * (basis @ solved.u + 20 * basis[:, :dead] @ np.arange(1, dead + 1)))
        assert walked.sum() == pytest.approx(solved.value, rel=1e-8)


def test_everything_may_vanish() -> None:
    """A single layer whose only partner is dead: the infimum is 0, at infinity."""
    solved = minimise(np.array([5.0, 0.0]), np.array([[1.0], [-1.0]]))
    assert (solved.value, solved.vanishing) == (0.0, (0,))
    assert solved.terms.tolist() == [0.0, 0.0]


def plan(seed: int, shape: tuple[int, int], density: float) -> tuple[Array, Array]:
    """Non-negative matrices with equal row sums and equal column sums, of different supports."""
    rng = np.random.default_rng(seed)
    one = np.where(rng.random(shape) < density, np.exp(rng.normal(size=shape)), 0.0)
    other = one.copy()
    for _ in range(3 * one.size):  # move mass around rectangles, sometimes all of an entry
        (i, k), (j, m) = rng.choice(shape[0], 2, replace=False), rng.choice(shape[1], 2, replace=False)
        mass = min(other[i, j], other[k, m]) * rng.choice([0.3, 1.0])
        other[[i, k], [j, m]] -= mass
        other[[i, k], [m, j]] += mass
    return one, np.where(other > 1e-14, other, 0.0)


@pytest.mark.parametrize("spread", [0.3, 2.0, 6.0])
@pytest.mark.parametrize("density", [0.3, 1.0])
@pytest.mark.parametrize("shape", [(2, 2), (5, 7), (30, 20)])
def test_row_and_column_scales_are_the_ones_that_were_built(
    shape: tuple[int, int], density: float, spread: float
) -> None:
    """D_ij s_i t_j and V_ij / (s_i t_j) with equal sums over every row and column: the derivatives are all 0."""
    for seed in range(2):
        one, other = plan(seed, shape, density)
        rng = np.random.default_rng(seed + 100)
        scale = np.outer(np.exp(rng.normal(size=shape[0]) * spread), np.exp(rng.normal(size=shape[1]) * spread))
        solved = scale_rows_and_columns(one / scale, other * scale)
        assert solved.value == pytest.approx(2 * one.sum(), rel=1e-11)
        assert solved.gradient <= 1e-11
        assert solved.dropped == 0  # what is balanced is a circulation: nothing of it can shrink by itself


@pytest.mark.parametrize("spread", [0.3, 2.0, 6.0])
@pytest.mark.parametrize("density", [0.2, 1.0])
@pytest.mark.parametrize("size", [2, 5, 20])
def test_column_scales_are_the_ones_that_were_built(size: int, density: float, spread: float) -> None:
    """With D = diag(1/t), the square is sum_jk M_jk at the scales t, for any M with equal row and column sums."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        M = np.where(rng.random((size, size)) < density, np.exp(rng.normal(size=(size, size))), 0.0)
        M = M + M.T + np.roll(np.eye(size), 1, 0)  # symmetric, and a cycle: balanced, and all connected
        t = np.exp(rng.normal(size=size) * spread)
        solved = scale_columns(np.diag(1 / t), M * t)
        assert solved.value == pytest.approx(np.sqrt(M.sum()), rel=1e-10)
        assert solved.dropped == 0


@pytest.mark.parametrize("solve", [scale_rows_and_columns, scale_columns])
@pytest.mark.parametrize("seed", range(6))
def test_scattered_zeros_leave_an_infimum_that_scales_approach_and_never_undercut(solve: object, seed: int) -> None:
    """Many random zeros: by an optimiser with room to run, from several starts."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(seed)
    shape = (4, 5)
    D, V = (np.where(rng.random(shape) < 0.5, np.exp(rng.normal(size=shape)), 0.0) for _ in range(2))

    def sums(x: Array) -> tuple[float, Array]:
        scale = np.exp(np.add.outer(x[:4], x[4:]))
        up, down = D * scale, V / scale
        slope = up - down
        return float((up + down).sum()), np.concatenate((slope.sum(1), slope.sum(0)))

    def roots(x: Array) -> tuple[float, Array]:
        t = np.exp(x[4:])
        one, other = D @ t, V @ (1 / t)
        slope = t * (D.T @ other) - (V.T @ one) / t
        return float(one @ other), np.concatenate((np.zeros(4), slope))

    objective = sums if solve is scale_rows_and_columns else roots
    best = min(
        minimize(
            objective, start, jac=True, method="L-BFGS-B", bounds=[(-25, 25)] * 9, options={"ftol": 0, "gtol": 1e-10}
        ).fun
        for start in (np.zeros(9), rng.normal(size=9), 5 * rng.normal(size=9))
    )
    reached = best if solve is scale_rows_and_columns else np.sqrt(best)
    solved: ScaledMatrix = solve(D, V)  # type: ignore[operator]
    assert solved.value <= reached * (1 + 1e-9)
    assert solved.value == pytest.approx(reached, rel=1e-6, abs=1e-5)
    for x in rng.normal(size=(200, 9)) * 4:
        value = objective(x)[0]
        assert solved.value <= (value if solve is scale_rows_and_columns else np.sqrt(value)) * (1 + 1e-12)


@pytest.mark.parametrize("solve", [scale_rows_and_columns, scale_columns])
def test_degree_and_order(solve: object) -> None:
    """Both are of degree one half in D and in V, and do not depend on the order of rows or columns."""
    rng = np.random.default_rng(3)
    D, V = np.exp(rng.normal(size=(4, 6))), np.exp(rng.normal(size=(4, 6)))
    value = solve(D, V).value  # type: ignore[operator]
    for one, other in ((4.0, 9.0), (1e-60, 1e60), (1e-80, 1e-80)):
        assert solve(D * one, V * other).value == pytest.approx(value * np.sqrt(one) * np.sqrt(other), rel=1e-9)  # type: ignore[operator]
    rows, columns = rng.permutation(4), rng.permutation(6)
    assert solve(D[rows][:, columns], V[rows][:, columns]).value == pytest.approx(value, rel=1e-9)  # type: ignore[operator]
    assert solve(V, D).value == pytest.approx(value, rel=1e-9)  # type: ignore[operator]
    if solve is scale_rows_and_columns:
        assert scale_rows_and_columns(D.T, V.T).value == pytest.approx(value, rel=1e-10)


def test_one_row_or_one_column() -> None:
    rng = np.random.default_rng(0)
    D, V = np.exp(rng.normal(size=(1, 6))), np.exp(rng.normal(size=(1, 6)))
    every = 2 * np.sqrt(D * V).sum()  # each entry has its own scale
    assert scale_rows_and_columns(D, V).value == pytest.approx(every, rel=1e-12)
    assert scale_rows_and_columns(D.T, V.T).value == pytest.approx(every, rel=1e-12)
    assert scale_columns(D, V).value == pytest.approx(every / 2, rel=1e-10)
    assert scale_columns(D.T, V.T).value == pytest.approx(np.sqrt((D.T * np.ones(1)).sum(1) @ V.T.sum(1)), rel=1e-12)


def test_nothing_in_common_is_nothing() -> None:
    """Where no entry of D and V can hold another, everything can be driven to 0."""
    for solve in (scale_rows_and_columns, scale_columns):
        solved = solve(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [0.0, 0.0]]))
        assert (solved.value, solved.gradient) == (0.0, 0.0)
        assert solved.dropped == 3
