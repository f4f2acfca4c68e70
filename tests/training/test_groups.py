"""Groups: which networks train together, fixed only by the cohort, and the rule that says where it pays."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpbench.datasets import Digits, Mnist
from sharpbench.models import SIGNAL_MODELS, LeNet, Mlp, SmallCnn, SmallMlp
from sharpbench.models.model import Model
from sharpbench.training.loss import can_stack
from sharpbench.training.optimizers import Adam, Asam, MSam, Sam, Sgd
from sharpbench.training.recipe import Recipe
from sharpbench.training.trainer import MAX_GROUP_NETWORKS, MAX_STACKED_PARAMETERS, group_recipes, group_size

RECIPE = Recipe(model=SmallMlp(), dataset=Digits())
SHAPE = (1, 28, 28)


@pytest.mark.parametrize(
    "change",
    [
        *({"seed": 3}, {"label_noise": 0.5}, {"learning_rate": 0.1}, {"weight_decay": 0.1}, {"decay": 0.1}),
        *({"target_loss": 0.5}, {"target_accuracy": 0.5}, {"max_epochs": 3}, {"optimizer": Sgd(momentum=0.5)}),
    ],
    ids=str,
)
def test_what_networks_of_a_group_may_differ_in(change: dict[str, Any]) -> None:
    other = replace(RECIPE, **change)
    assert group_recipes((RECIPE, other), lambda recipe: 16) == ((RECIPE, other),)


@pytest.mark.parametrize(
    "change",
    [
        *({"model": SmallMlp(bias=False)}, {"dataset": Mnist()}, {"train_size": 64}, {"batch_size": 32}),
        *({"optimizer": Sam()}, {"optimizer": Adam()}),
    ],
    ids=str,
)
def test_what_tells_groups_apart(change: dict[str, Any]) -> None:
    other = replace(RECIPE, **change)
    assert group_recipes((RECIPE, other), lambda recipe: 16) == ((RECIPE,), (other,))


def test_choices_of_an_optimizer_tell_groups_apart_and_its_numbers_do_not() -> None:
    chosen = [Asam(), Asam(rho=0.1), Asam(biases=True), MSam(size=4), MSam(size=8), Asam(eta=0.0)]
    a, b, c, d, e, f = (replace(RECIPE, optimizer=each) for each in chosen)
    assert group_recipes((a, b, c, d, e, f), lambda recipe: 16) == ((a, b, f), (c,), (d,), (e,))


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 33, 100])
@pytest.mark.parametrize("size", [1, 3, 16])
def test_groups_are_as_few_as_may_be_and_of_equal_size(count: int, size: int) -> None:
    recipes = [replace(RECIPE, seed=seed) for seed in range(count)]
    parts = group_recipes(recipes, lambda recipe: size)
    assert list(itertools.chain(*parts)) == recipes
    assert len(parts) == -(-count // size)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert max(map(len, parts)) <= size


def test_groups_go_by_their_first_recipe_and_hold_each_once() -> None:
    recipes = [
        replace(RECIPE, seed=seed, model=model) for seed in range(3) for model in (SmallMlp(), Mlp(), SmallMlp())
    ]
    parts = group_recipes(recipes, lambda recipe: 2 if recipe.model == SmallMlp() else 1)
    small, large = ([replace(RECIPE, seed=seed, model=model) for seed in range(3)] for model in (SmallMlp(), Mlp()))
    assert parts == ((small[0],), (large[0],), (small[1], small[2]), (large[1],), (large[2],))
    assert group_recipes((), lambda recipe: 16) == ()


def chosen_size(model: Model, device: str = "cpu") -> int:
    return group_size(model.build(SHAPE, 10), torch.zeros(4, *SHAPE), device=device)


def test_on_a_cpu_small_networks_for_signals_train_together() -> None:
    signals = torch.zeros(4, 1, 40)
    assert {group_size(cls().build((1, 40), 10), signals, device="cpu") for cls in SIGNAL_MODELS} == {
        MAX_GROUP_NETWORKS["cpu"]
    }


def test_on_a_cpu_small_perceptrons_train_together() -> None:
    assert chosen_size(SmallMlp()) == MAX_GROUP_NETWORKS["cpu"]
    assert [chosen_size(model) for model in (Mlp(), SmallCnn(), LeNet())] == [1, 1, 1]
    wide = nn.Sequential(nn.Flatten(), nn.Linear(784, MAX_STACKED_PARAMETERS // 784 + 1))
    assert group_size(wide, torch.zeros(4, *SHAPE), device="cpu") == 1


def test_on_cuda_all_that_can_be_do() -> None:
    """Which can is found on the device that the module is on."""
    assert {chosen_size(model, "cuda") for model in (SmallMlp(), Mlp(), SmallCnn(), LeNet())} == {
        MAX_GROUP_NETWORKS["cuda"]
    }
    norm = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10))
    assert group_size(norm, torch.zeros(4, *SHAPE), device="cuda") == 1


class Branching(nn.Module):
    """Looks at values to decide."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(784, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.linear(inputs.flatten(1))
        return logits if float(logits.detach().sum()) > 0 else -logits


class Counting(nn.Module):
    """Writes to a buffer in training."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(784, 10)
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.passes += 1
        logits: Tensor = self.linear(inputs.flatten(1))
        return logits


@pytest.mark.parametrize(
    ("module", "together"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), True),
        (nn.Sequential(nn.Conv2d(1, 2, 5), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(1152, 10)), True),
        (nn.Sequential(nn.Flatten(), nn.LayerNorm(784), nn.Linear(784, 10)), True),
        (nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(784, 10)), False),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10)), False),
        (nn.Sequential(nn.Flatten()), False),
        (Branching(), False),
        (Counting(), False),
    ],
    ids=["linear", "group norm", "layer norm", "dropout", "batch norm", "no parameters", "branching", "counting"],
)
def test_what_can_train_together(module: nn.Module, together: bool) -> None:
    state, random = {name: value.clone() for name, value in module.state_dict().items()}, torch.random.get_rng_state()
    module.eval()
    assert can_stack(module, torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))) == together
    assert not module.training
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)
