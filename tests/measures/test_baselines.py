"""Baselines: how many parameters there are, and how long the gradient is."""

from __future__ import annotations

import pytest
import torch

from sharpbench import Subject, measure
from sharpbench.core.evaluate import parse_measure


def test_parameters_are_counted(chain: Subject) -> None:
    estimate = measure("parameter-count", chain)
    assert estimate.value == 5 * 6 + 6 + 6 * 4 + 4 + 4 * 3 + 3
    assert estimate.parts["2.weight"] == 24
    assert parse_measure("parameter-count").exact(chain) == estimate.value
    some = Subject.from_module(chain.module, chain.inputs, chain.targets, parameters=["2.weight"])
    assert measure("parameter-count", some).value == 24


@pytest.mark.parametrize("name", ["chain", "conv", "smooth", "attention", "regression"])
def test_the_gradient_is_that_of_all_examples_at_once(name: str, request: pytest.FixtureRequest) -> None:
    subject = request.getfixturevalue(name)
    params = {key: value.clone().requires_grad_() for key, value in subject.params.items()}
    logits = torch.func.functional_call(subject.module.eval(), {**subject.constants, **params}, subject.inputs)
    gradient = torch.autograd.grad(subject.criterion(logits, subject.targets).mean(), list(params.values()))
    truth = float(torch.cat([part.flatten() for part in gradient]).norm())
    assert measure("gradient-norm", subject).value == pytest.approx(truth, rel=1e-12)
    assert parse_measure("gradient-norm").exact(subject) == pytest.approx(truth, rel=1e-12)


def test_at_a_minimum_there_is_no_gradient() -> None:
    module = torch.nn.Linear(2, 2).double()
    x = torch.randn(4, 2, dtype=torch.float64)
    subject = Subject.from_module(module, x, module(x).detach(), loss="mse")
    assert measure("gradient-norm", subject).value == 0.0


@pytest.mark.parametrize("name", ["parameter-count", "gradient-norm"])
def test_invariances(name: str, chain: Subject, attention: Subject, invariances_are_true) -> None:  # type: ignore[no-untyped-def]
    invariances_are_true(parse_measure(name), chain, attention)


@pytest.mark.parametrize("name", ["parameter-count", "gradient-norm"])
def test_examples_do_not_matter(name: str, conv: Subject, examples_do_not_matter) -> None:  # type: ignore[no-untyped-def]
    examples_do_not_matter(parse_measure(name), conv)
