"""Balancing of single units: against a generic optimiser and by construction; what vanishes by a programme."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize as generic
from scipy.sparse import csr_array

from sharpbench.symmetry.minimum.layers import find_vanishing_terms
from sharpbench.symmetry.minimum.terms import Block, Terms
from sharpbench.symmetry.minimum.units import balance_terms

Array = np.ndarray


def signed(units: int) -> csr_array:
    """Potentials 0, u_1, ..., u_n, -u_1, ..., -u_n."""
    eye = np.eye(units)
    return csr_array(np.vstack((np.zeros((1, units)), eye, -eye)))


def block(name: str, values: Array, rows: Array, columns: Array) -> Block:
    return Block(name, np.asarray(values, dtype=float), np.asarray(rows), np.asarray(columns))


def network(seed: int, *, spread: float = 1.0, zeros: float = 0.0) -> Terms:
    """A chain of layers of 3, 4 and 2 units, biases, and an attention pair of 3 more: 12 potentials."""
    rng = np.random.default_rng(seed)

    def values(*shape: int) -> Array:
        return np.exp(rng.normal(size=shape) * spread) * (rng.random(shape) >= zeros)

    one, two, three, pair = (np.arange(a, b) for a, b in ((1, 4), (4, 8), (8, 10), (10, 13)))
    none = np.zeros(1, dtype=int)
    minus = 12
    return Terms(
        signed(12),
        (
            block("in", values(3, 1), one, none),
            block("a", values(4, 3), two, one + minus),
            block("a.bias", values(4, 1), two, none),
            block("b", values(2, 4), three, two + minus),
            block("skip", values(2, 3), three, one + minus),
            block("out", values(2, 1), three + minus, none),
            block("query", values(3, 2), pair, three + minus),
            block("key", values(3, 1), pair + minus, none),
            block("head", values(1, 1), none, none),
        ),
    )


def exponents(terms: Terms) -> tuple[Array, Array]:
    """Weights [terms] and exponents [terms, dimension], written out."""
    X = terms.potentials.toarray()
    weights, rows = [], []
    for each in terms.blocks:
        for (o, i), value in np.ndenumerate(each.values):
            weights.append(value)
            rows.append(X[each.rows[o]] + X[each.columns[i]])
    return np.array(weights), np.array(rows)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_it_reaches_the_generic_minimum(seed: int, spread: float) -> None:
    terms = network(seed, spread=spread)
    solved = balance_terms(terms)
    weights, E = exponents(terms)

    def logarithm(u: Array) -> tuple[float, Array]:
        parts = weights * np.exp(-2 * E @ u)
        return float(np.log(parts.sum())), -2 * E.T @ parts / parts.sum()

    best = generic(logarithm, np.zeros(12), jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 10_000})
    assert np.log(solved.value) == pytest.approx(best.fun, abs=1e-9)
    assert solved.gradient <= 1e-11
    assert solved.gap <= 1e-15
    assert solved.vanishing == {}
    assert (weights * np.exp(-2 * E @ solved.u)).sum() == pytest.approx(solved.value, rel=1e-12)
    assert sum(solved.parts.values()) == pytest.approx(solved.value, rel=1e-12)
    assert solved.value <= weights.sum()


@pytest.mark.parametrize("spread", [1.0, 5.0, 15.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_balanced_matrix_that_was_put_out_of_balance_is_balanced_again(seed: int, spread: float) -> None:
    """A matrix with equal row and column sums has its minimum where it is; scaled by any u, at -u."""
    rng = np.random.default_rng(seed)
    size = 40
    M = rng.random((size, size)) * (rng.random((size, size)) < 0.2)
    M += np.roll(np.eye(size), 1, axis=0)
    for _ in range(10_000):
        scale = np.sqrt(M.sum(0) / M.sum(1))
        M = M * scale[:, None] / scale
    u = np.concatenate(([0.0], rng.normal(size=size - 1) * spread))
    units, minus = np.arange(size), np.concatenate(([0], np.arange(size, 2 * size - 1)))
    terms = Terms(signed(size - 1), (block("M", M * np.exp(2 * (u[:, None] - u)), units, minus),))
    solved = balance_terms(terms)
    assert solved.value == pytest.approx(M.sum(), rel=1e-12)
    np.testing.assert_allclose(solved.u, u[1:], atol=1e-5)


@pytest.mark.parametrize("seed", range(30))
def test_what_vanishes_is_what_a_linear_programme_says(seed: int) -> None:
    """Networks with many zeros: the strongly connected parts of the signed graph against a linear programme."""
    terms = network(seed, zeros=[0.2, 0.4, 0.6][seed % 3])
    weights, E = exponents(terms)
    gone = find_vanishing_terms(E[weights > 0])
    solved = balance_terms(terms)
    assert solved.vanishing is not None
    assert sum(solved.vanishing.values()) == gone.sum()
    live = np.flatnonzero(weights > 0)[~gone]
    assert (weights[live] * np.exp(-2 * E[live] @ solved.u)).sum() == pytest.approx(solved.value, rel=1e-12)
    assert solved.gradient <= 1e-11
    assert all(np.isfinite(solved.u))


def test_a_dead_unit_counts_for_nothing_and_half_a_dead_one_vanishes() -> None:
    terms = network(0)
    without = [
        block(each.name, each.values.copy(), each.rows, each.columns) if each.name in ("a", "a.bias", "b") else each
        for each in terms.blocks
    ]
    without[1].values[2] = 0.0
    without[2].values[2] = 0.0
    half = balance_terms(Terms(terms.potentials, tuple(without)))
    assert half.vanishing == {"b": 2}  # nothing holds the unit's outgoing weights
    without[3].values[:, 2] = 0.0
    dead = balance_terms(Terms(terms.potentials, tuple(without)))
    assert dead.vanishing == {}
    assert dead.value == pytest.approx(half.value, rel=1e-12)


def test_exponents_of_three_units() -> None:
    """A product of two branches: u_1 + u_2 against what follows; by a linear programme what vanishes."""
    X = csr_array(np.vstack((np.zeros((1, 3)), np.eye(3), [[-1.0, -1.0, 1.0]])))
    column = np.zeros(1, dtype=int)
    given = [block(str(row), [[weight]], np.array([row]), column) for row, weight in ((1, 2.0), (2, 3.0), (4, 5.0))]
    assert balance_terms(Terms(X, tuple(given))).vanishing == {"1": 1, "2": 1, "4": 1}
    X = csr_array(np.vstack((X.toarray(), [[0.0, 0.0, -1.0]])))
    given.append(block("5", [[7.0]], np.array([5]), column))
    solved = balance_terms(Terms(X, tuple(given)))
    assert solved.value == pytest.approx(4 * (2.0 * 3.0 * 5.0 * 7.0) ** 0.25, rel=1e-12)
    assert solved.vanishing == {}


@pytest.mark.parametrize(("x", "y", "attained"), [(1.0, 2.0, False), (1.0, 1.0, True), (0.5, 3.0, True)])
def test_units_of_unequal_factors(x: float, y: float, attained: bool) -> None:
    """2 exp(-2 (x - 2 y)) + 3 exp(-2 (y - x)) vanishes for y = -1, x = -1.5, although arrows run both ways; with the
    same factors in both terms it is at least 2 sqrt(6)."""
    back = [-x, y] if attained else [-1.0, 1.0]
    X = csr_array(np.array([[0.0, 0.0], [x, -y], back]))
    column = np.zeros(1, dtype=int)
    solved = balance_terms(Terms(X, (block("one", [[2.0]], [1], column), block("two", [[3.0]], [2], column))))
    assert solved.vanishing == ({} if attained else {"one": 1, "two": 1})
    assert solved.value == pytest.approx(2 * 6**0.5 if attained else 0.0, rel=1e-12)


def test_nothing_to_balance() -> None:
    none = np.zeros(1, dtype=int)
    terms = Terms(csr_array((1, 0)), (block("w", [[3.0]], none, none),))
    solved = balance_terms(terms)
    assert (solved.value, solved.steps, solved.vanishing) == (3.0, 0, {})
    empty = balance_terms(Terms(signed(1), (block("w", [[0.0]], np.array([1]), none),)))
    assert (empty.value, empty.vanishing) == (0.0, {})


@pytest.mark.slow
def test_a_hundred_thousand_units_within_a_minute() -> None:
    """A chain of 100 layers of 1,000 units."""
    rng = np.random.default_rng(0)
    layers, wide = 100, 1000
    units = layers * wide
    eye = np.arange(units)
    X = csr_array((np.concatenate((np.ones(units), -np.ones(units))), (np.arange(1, 2 * units + 1), np.tile(eye, 2))))
    none = np.zeros(1, dtype=int)
    places = np.arange(1, units + 1).reshape(layers, wide)
    blocks = [block("first", np.exp(rng.normal(size=(wide, 1))), places[0], none)]
    for one, two in itertools.pairwise(places):
        blocks.append(block("weight", np.exp(rng.normal(size=(wide, wide)) * 2), two, one + units))
    blocks.append(block("last", np.exp(rng.normal(size=(wide, 1))), places[-1] + units, none))
    solved = balance_terms(Terms(X, tuple(blocks)))
    assert solved.gradient <= 1e-11
    assert solved.vanishing == {}
