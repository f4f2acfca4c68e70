"""The convex solve: against a generic optimiser, with a certificate that bounds the error, infima named."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize as generic

from sharpbench import InvalidInput
from sharpbench.symmetry import minimise


def chain(layers: int, *, bias: bool) -> np.ndarray:
    """Rows: weight l has u_l - u_{l-1}, bias l has u_l, with u_0 = u_L = 0."""
    cumulative = np.vstack((np.zeros(layers - 1), np.eye(layers - 1), np.zeros(layers - 1)))
    weights = np.diff(cumulative, axis=0)
    return np.vstack((weights, cumulative[1:])) if bias else weights


@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0, 10.0])
@pytest.mark.parametrize("layers", [2, 3, 5, 12])
def test_newton_reaches_the_generic_minimum(layers: int, spread: float) -> None:
    basis = chain(layers, bias=True)
    traces = np.exp(np.random.default_rng(layers).normal(size=len(basis)) * spread)
    solved = minimise(traces, basis)

    def logarithm(u: np.ndarray) -> tuple[float, np.ndarray]:
        terms = traces * np.exp(-2 * basis @ u)
        return float(np.log(terms.sum())), -2 * basis.T @ terms / terms.sum()

    best = generic(logarithm, np.zeros(layers - 1), jac=True, method="BFGS", options={"gtol": 1e-11, "maxiter": 10_000})
    assert np.log(solved.value) <= best.fun + 1e-10
    assert np.log(solved.value) == pytest.approx(best.fun, abs=1e-8)
    assert solved.gap <= 1e-12
    assert solved.value <= traces.sum() * (1 + 1e-12)
    assert solved.terms.sum() == pytest.approx(solved.value, rel=1e-12)
    assert (traces * np.exp(-2 * basis @ solved.u)).sum() == pytest.approx(solved.value, rel=1e-9)


@pytest.mark.parametrize("layers", [2, 3, 5, 12])
def test_without_biases_it_is_theorem_1(layers: int) -> None:
    traces = np.exp(np.random.default_rng(layers).normal(size=layers) * 3)
    solved = minimise(traces, chain(layers, bias=False))
    assert solved.method == "closed form"
    assert solved.value == pytest.approx(layers * np.prod(traces ** (1 / layers)), rel=1e-12)
    assert solved.terms == pytest.approx(np.full(layers, solved.value / layers), rel=1e-10)


def test_the_minimum_is_invariant_to_the_group() -> None:
    rng = np.random.default_rng(0)
    basis = chain(5, bias=True)
    traces = np.exp(rng.normal(size=len(basis)))
    moved = traces * np.exp(-2 * basis @ rng.normal(size=4))
    assert minimise(moved, basis).value == pytest.approx(minimise(traces, basis).value, rel=1e-12)


def test_a_dead_layer_lets_the_layers_before_it_vanish() -> None:
    """Trace 0 at weight 1 lets it grow for free: weight 0 and bias 0 shrink to nothing; the rest is their minimum."""
    basis = chain(4, bias=True)
    traces = np.exp(np.random.default_rng(3).normal(size=8))
    traces[1] = 0.0
    solved = minimise(traces, basis)
    assert solved.vanishing == (0, 4)
    far = np.array([30.0, 0.0, 0.0])
    alive = [2, 3, 5, 6, 7]
    assert solved.value == pytest.approx(minimise(traces[alive], basis[alive][:, 1:]).value, rel=1e-12)
    best = generic(
        lambda u: (traces * np.exp(-2 * basis @ np.append(30.0, u))).sum(), np.zeros(2), method="Nelder-Mead"
    )
    assert solved.value <= best.fun + 1e-6
    assert (traces * np.exp(-2 * basis @ far)).sum() > solved.value


def test_without_freedom_it_is_the_sum() -> None:
    solved = minimise(np.array([1.0, 2.0]), np.zeros((2, 0)))
    assert (solved.value, solved.method, solved.vanishing) == (3.0, "no freedom", ())
    nothing = minimise(np.zeros(3), chain(3, bias=False))
    assert nothing.value == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_traces_must_be_finite(bad: float) -> None:
    with pytest.raises(InvalidInput, match=f"traces must be finite, and 1 of 3 are not: {bad}"):
        minimise(np.array([1.0, bad, 2.0]), chain(3, bias=False))
