"""The followed eigenvalue is the largest one, from any start, and a warm start takes fewer products."""

from __future__ import annotations

import torch

from sharpbench import Subject, curvature
from sharpbench.core.network_facts import at_weights
from sharpbench.core.parameters import Weights


def make_subject(seed: int = 0, examples: int = 40) -> Subject:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    return Subject.from_module(
        model, torch.randn(examples, 6, dtype=torch.float64), torch.randint(3, (examples,)), batch_size=16
    )


def moved(subject: Subject, size: float) -> Subject:
    """The subject at weights that a step of training might reach."""
    return subject.with_params({name: value * (1 + size) for name, value in subject.params.items()})


def test_a_warm_start_takes_fewer_products_to_the_same_eigenvalue() -> None:
    subject, draws = make_subject(), torch.Generator().manual_seed(0)
    before = curvature.follow_eigenvalue(curvature.held_operator(subject), None, generator=draws, tolerance=1e-4)
    operator = curvature.held_operator(moved(subject, 0.001))
    warm = curvature.follow_eigenvalue(operator, before, generator=draws, tolerance=1e-4)
    cold = curvature.follow_eigenvalue(operator, None, generator=draws, tolerance=1e-4)
    exact = float(torch.linalg.eigvalsh(curvature.dense_hessian(moved(subject, 0.001)))[-1])
    assert warm.warm
    assert not cold.warm
    assert warm.products < cold.products
    assert abs(warm.value - exact) < 1e-6 * exact
    assert abs(cold.value - exact) < 1e-6 * exact


def test_an_eigenvalue_that_overtakes_the_followed_one_is_found_by_the_next_cold_start() -> None:
    like = torch.zeros(3, dtype=torch.float64)

    def diagonal(*values: float) -> curvature.LinearOperator:
        matrix = torch.tensor(values, dtype=torch.float64)
        return curvature.LinearOperator(3, like, lambda vector: matrix * vector, 1)

    draws = torch.Generator().manual_seed(0)
    found = curvature.follow_eigenvalue(diagonal(3, 2, 1), None, generator=draws)
    values = []
    for _ in range(curvature.COLD_STARTS_EVERY):
        found = curvature.follow_eigenvalue(diagonal(3, 4, 1), found, generator=draws, tolerance=1e-8)
        values.append(round(found.value, 6))
    assert values[-1] == 4


def test_the_held_operator_has_the_products_of_the_usual_one() -> None:
    for subject in (make_subject(), make_subject(examples=100)):  # the second has more batches than are held
        held, usual = curvature.held_operator(subject), curvature.linear_operator(subject)
        vectors = torch.randn(subject.size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(held @ vectors, usual @ vectors, rtol=1e-10, atol=1e-12)


def test_the_held_operator_counts_the_penalty() -> None:
    subject = make_subject()
    decayed = Subject.from_module(subject.module, subject.inputs, subject.targets, weight_decay=0.5)
    vector = torch.ones(subject.size, dtype=torch.float64)
    torch.testing.assert_close(
        curvature.held_operator(decayed).product(vector),
        curvature.held_operator(subject).product(vector) + 0.5 * vector,
    )


def test_a_linear_loss_has_no_curvature() -> None:
    model = torch.nn.Linear(3, 1, bias=False)
    subject = Subject.from_module(
        model, torch.ones(2, 3), torch.zeros(2, 1), loss=lambda outputs, targets: outputs[:, 0]
    )
    assert not curvature.held_operator(subject).product(torch.ones(3)).any()


def test_weights_of_a_later_step_keep_what_the_operators_are_and_nothing_else() -> None:
    subject = make_subject()
    operators = subject.operators
    weights = {name: value + 1 for name, value in subject.params.items()}
    later = at_weights(subject, Weights(weights, subject.constants, (), ""))
    assert later.operators is operators
    assert float(later.loss(later.params)) == float(subject.loss(weights))
    assert later.graph is not None
    assert not later.once(lambda each: each is subject)
