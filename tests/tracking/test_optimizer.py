"""What is read of an optimizer is what it does: the next update to rounding, the preconditioner, the bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sharpbench.core.measure import NotApplicable
from sharpbench.errors import InvalidInput
from sharpbench.optim import SAM
from sharpbench.tracking.optimizer import OptimizerReader

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, weight_decay=0.01),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, dampening=0.3),
    "nesterov": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.8, nesterov=True),
    "adam": lambda groups: torch.optim.Adam(groups, lr=0.01, weight_decay=0.1),
    "amsgrad": lambda groups: torch.optim.Adam(groups, lr=0.01, amsgrad=True),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, lr=0.01, momentum=0.5, centered=True, weight_decay=0.1),
    "adagrad": lambda groups: torch.optim.Adagrad(groups, lr=0.01, lr_decay=0.1),
}


def make_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()


def take_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, number: int) -> dict[str, torch.Tensor]:
    """One step on a random batch; the gradient that it used."""
    inputs = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(number))
    optimizer.zero_grad()
    model(inputs).square().mean().backward()
    gradient = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
    optimizer.step()
    return gradient


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 3])
def test_the_next_update_is_the_one_that_the_optimizer_makes(name: str, before: int) -> None:
    model, other = make_model(), make_model()
    groups = [
        [{"params": each[0].parameters()}, {"params": each[2].parameters(), "lr": 0.003}] for each in (model, other)
    ]  # type: ignore[index]
    optimizer, twin = (OPTIMIZERS[name](each) for each in groups)
    for number in range(before):
        take_step(model, optimizer, number)
        take_step(other, twin, number)
    reader = OptimizerReader.of(optimizer, model)
    params = {key: value.detach().clone() for key, value in model.named_parameters()}
    gradient = take_step(other, twin, before)
    update = reader.next_update(gradient, params)
    for key, value in other.named_parameters():
        torch.testing.assert_close(
            params[key] - reader.learning_rate * update[key], value.detach(), rtol=1e-12, atol=1e-14
        )


def test_adams_preconditioner_is_that_of_the_paper() -> None:
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.8, 0.9), eps=1e-3)
    for number in range(4):
        take_step(model, optimizer, number)
    params = dict(model.named_parameters())
    found = OptimizerReader.of(optimizer, model).inverse_preconditioner(params)
    for name, value in params.items():
        squares = optimizer.state[value]["exp_avg_sq"]
        paper = (1 - 0.8**4) * ((squares / (1 - 0.9**4)).sqrt() + 1e-3)
        torch.testing.assert_close(1 / found[name], paper)


@pytest.mark.parametrize(
    ("make", "bound"),
    [
        (lambda params: torch.optim.SGD(params, lr=0.5), 4.0),
        (lambda params: torch.optim.SGD(params, lr=0.5, momentum=0.9), 7.6),
        (lambda params: torch.optim.SGD(params, lr=0.5, momentum=0.9, nesterov=True), 7.6 / 2.8),
        (lambda params: torch.optim.SGD(params, lr=0.5, momentum=0.9, dampening=0.5), 15.2),
    ],
)
def test_above_the_bound_a_quadratic_diverges_and_below_it_converges(
    make: Callable[[Any], torch.optim.Optimizer], bound: float
) -> None:
    for factor, converges in ((0.95, True), (1.05, False)):
        weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        model = torch.nn.Module()
        model.weight = weight
        optimizer = make([weight])
        assert OptimizerReader.of(optimizer, model).bound == pytest.approx(bound)
        for _ in range(300):
            optimizer.zero_grad()
            (factor * bound / 2 * weight.square()).sum().backward()
            optimizer.step()
        assert (abs(weight.item()) < 1) == converges


def test_parameters_that_the_optimizer_does_not_move_have_no_weight() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)  # type: ignore[index]
    reader = OptimizerReader.of(optimizer, model)
    params = dict(model.named_parameters())
    found = reader.inverse_preconditioner(params)
    assert bool((found["0.weight"] == 1).all())
    assert not found["2.weight"].any()


def test_what_is_not_known_is_refused() -> None:
    model = make_model()
    with pytest.raises(InvalidInput, match="none of the model's 4 parameters"):
        OptimizerReader.of(torch.optim.SGD(make_model().parameters(), lr=0.1), model)
    with pytest.raises(InvalidInput, match="optimizer= is a str"):
        OptimizerReader.of("adam", model)
    wrapped = SAM(torch.optim.SGD(model.parameters()), model)
    with pytest.raises(NotApplicable, match=r"updates of SAM are not known.*; give the base optimizer"):
        _ = OptimizerReader.of(wrapped, model).bound
    with pytest.raises(NotApplicable, match="updates of NAdam are not known"):
        _ = OptimizerReader.of(torch.optim.NAdam(model.parameters()), model).kind
    with pytest.raises(NotApplicable, match="maximizes"):
        _ = OptimizerReader.of(torch.optim.SGD(model.parameters(), lr=0.1, maximize=True), model).bound
    with pytest.raises(NotApplicable, match="no state before its first step"):
        OptimizerReader.of(torch.optim.Adam(model.parameters()), model).inverse_preconditioner(
            dict(model.named_parameters())
        )
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "momentum": 0.9}]  # type: ignore[index]
    with pytest.raises(NotApplicable, match="different momentum"):
        _ = OptimizerReader.of(torch.optim.SGD(groups, lr=0.1), model).bound
    with pytest.raises(NotApplicable, match="learning rate is 0"):
        _ = OptimizerReader.of(torch.optim.SGD(model.parameters(), lr=0.0), model).bound
