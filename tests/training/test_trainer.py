"""Networks trained together equal those trained one by one, and none sees another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpbench.datasets import Digits
from sharpbench.datasets.dataset import Data
from sharpbench.models import LeNet, Mlp, SmallCnn, SmallMlp
from sharpbench.models.model import Model
from sharpbench.training.optimizers import OPTIMIZERS, Adam, Asam, FriendlySam, MSam, Optimizer, Sam, Sgd
from sharpbench.training.recipe import Recipe
from sharpbench.training.state import Epoch, TrainingState, pack_state, unpack_state
from sharpbench.training.trainer import StackedTrainer

RECIPE = Recipe(
    model=SmallMlp(), dataset=Digits(), train_size=84, batch_size=8, learning_rate=0.02, max_epochs=2, target_loss=1e-9
)
"""Two epochs are 22 steps, the eleventh and the last on a ragged batch of four."""
NUMBERS: dict[str, list[dict[str, float]]] = {
    "sgd": [{}, {"momentum": 0.5}, {"momentum": 0.0}],
    "sam": [{}, {"rho": 0.1}, {"rho": 0.0}],
    "asam": [{}, {"rho": 0.1, "eta": 0.1}, {"eta": 0.0}],
    "m-sam": [{}, {"rho": 0.1}, {"rho": 0.0}],
    "f-sam": [{}, {"sigma": 0.5}, {"smoothing": 0.5}],
    "sampa": [{}, {"rho": 0.2}, {"weight": 0.5}],
    "adam": [{}, {"beta1": 0.5}, {"epsilon": 1e-4}],
    "adamw": [{}, {"beta1": 0.5}, {"epsilon": 1e-4}],
}


@pytest.fixture(scope="module")
def digits() -> Data:
    return Digits().load(None)


def end(group: StackedTrainer, stage: TrainingState | None = None) -> TrainingState:
    """The last stage."""
    stage = stage or group.begin()
    while stage.active:
        stage = group.advance(stage)
    return stage


def weights(recipes: Sequence[Recipe], data: Data, dtype: torch.dtype = torch.float32) -> list[dict[str, Tensor]]:
    """What the networks come to when they train together."""
    finished = end(StackedTrainer(recipes, data, dtype=dtype)).finished
    return [finished[index].weights for index in range(len(recipes))]


def start(recipe: Recipe, data: Data, dtype: torch.dtype) -> dict[str, Tensor]:
    return StackedTrainer([recipe], data, dtype=dtype).begin().weights(0)


def varied(model: Model, cls: type[Optimizer]) -> list[Recipe]:
    """Three networks that differ in all that networks of a group may differ in."""
    adaptive = issubclass(cls, Adam)
    chosen = [cls(**{**({"size": 3} if cls is MSam else {}), **numbers}) for numbers in NUMBERS[cls.name]]
    recipe = replace(RECIPE, model=model, learning_rate=1e-3 if adaptive else 0.02)
    return [
        replace(recipe, optimizer=chosen[0]),
        replace(recipe, optimizer=chosen[1], label_noise=0.5, weight_decay=1e-2, seed=1),
        replace(recipe, optimizer=chosen[2], learning_rate=recipe.learning_rate / 2, decay=0.1, seed=2),
    ]


@pytest.mark.parametrize("cls", OPTIMIZERS, ids=lambda cls: cls.name)
@pytest.mark.parametrize(
    "model",
    [SmallMlp(), *(pytest.param(model, marks=pytest.mark.slow) for model in (Mlp(), LeNet(), SmallCnn()))],
    ids=lambda model: model.name,
)
def test_steps_together_are_steps_alone(model: Model, cls: type[Optimizer], digits: Data) -> None:
    """In float64; float32 is for three of the optimisers, as what it adds is rounding."""
    compare_steps(model, cls, torch.float64, 1e-10, digits)


@pytest.mark.parametrize("cls", [Sgd, Sam, Adam], ids=lambda cls: cls.name)
@pytest.mark.parametrize(
    "model",
    [SmallMlp(), *(pytest.param(model, marks=pytest.mark.slow) for model in (Mlp(), LeNet(), SmallCnn()))],
    ids=lambda model: model.name,
)
def test_steps_together_are_steps_alone_up_to_rounding(model: Model, cls: type[Optimizer], digits: Data) -> None:
    compare_steps(model, cls, torch.float32, 1e-5, digits)


def compare_steps(model: Model, cls: type[Optimizer], dtype: torch.dtype, bound: float, digits: Data) -> None:
    """The distance of the two after 22 steps, by the norm of the weights.

    In float32 rounding turns, now and then, a maximum of a pool to another pixel, which is a step of the gradient
    and no rounding any more, and Adam divides gradients that are rounding by their own size: there one network of
    the three must agree, and no other be far off. In float64 all do.
    """
    recipes, distances = varied(model, cls), []
    for recipe, together in zip(recipes, weights(recipes, digits, dtype), strict=True):
        (alone,) = weights([recipe], digits, dtype)
        away = sum(float((together[name] - value).double().square().sum()) for name, value in alone.items())
        size = sum(float(value.double().square().sum()) for value in alone.values())
        distances.append((away / size) ** 0.5)
        assert not torch.equal(*(each["layer0.weight"] for each in (alone, start(recipe, digits, dtype))))
    turning = dtype == torch.float32 and (issubclass(cls, Adam) or not isinstance(model, SmallMlp | Mlp))
    assert (min if turning else max)(distances) < bound
    assert max(distances) < 0.05


def test_a_network_does_not_depend_on_its_companions(digits: Data) -> None:
    recipes = [replace(RECIPE, seed=seed, label_noise=seed / 4) for seed in range(5)]
    whole = weights(recipes, digits, torch.float64)
    few = weights([recipes[3], recipes[1]], digits, torch.float64)
    for mine, other in ((whole[3], few[0]), (whole[1], few[1])):
        assert all(torch.allclose(mine[name], value, rtol=1e-12, atol=1e-12) for name, value in other.items())
    assert not torch.allclose(whole[1]["layer0.weight"], whole[3]["layer0.weight"], atol=1e-3)


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [*((SmallMlp(), optimizer) for optimizer in (Sgd(), Sam(), FriendlySam(), Adam())), (SmallCnn(), Sgd())],
    ids=lambda each: each.name,
)
def test_a_network_that_diverges_leaves_and_spreads_nothing(model: Model, optimizer: Optimizer, digits: Data) -> None:
    calm = [replace(RECIPE, model=model, optimizer=optimizer, seed=seed, max_epochs=4) for seed in range(3)]
    calm = [replace(recipe, learning_rate=1e-3) for recipe in calm]
    wild = replace(calm[0], learning_rate=1e38 if optimizer == Adam() else 1e6, seed=9)
    group = StackedTrainer([calm[0], wild, calm[1], calm[2]], digits, dtype=torch.float32)
    stage, seen = group.begin(), []
    while stage.active:
        stage = group.advance(stage)
        seen.append(stage.active)
    lost = stage.finished[1]
    assert (lost.epoch.diverged, lost.epoch.fitted) == (True, False)
    assert lost.epoch.number < 4
    assert (0, 2, 3) in seen
    for place, expected in zip((0, 2, 3), weights(calm, digits), strict=True):
        assert not stage.finished[place].epoch.diverged
        assert stage.finished[place].epoch.number == 4
        for name, value in stage.finished[place].weights.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


def test_each_network_leaves_when_it_is_done(digits: Data) -> None:
    """By its own budget, its own targets, with the weights that it had then."""
    easy = replace(RECIPE, target_loss=0.5, max_epochs=50, target_accuracy=0.9)
    recipes = [replace(RECIPE, max_epochs=3), easy, replace(RECIPE, max_epochs=1, seed=1), replace(easy, seed=2)]
    group = StackedTrainer(recipes, digits)
    stage, left = group.begin(), {}
    while stage.active:
        before = set(stage.finished)
        stage = group.advance(stage)
        assert set(stage.epochs) == set(stage.active) | (set(stage.finished) - before)
        left |= dict.fromkeys(set(stage.finished) - before, stage.epoch)
    ends = {index: network.epoch for index, network in stage.finished.items()}
    assert {index: epoch.number for index, epoch in ends.items()} == left
    assert (ends[0].number, ends[2].number) == (3, 1)
    assert ends[0].steps == 33
    assert (ends[1].fitted, ends[3].fitted, ends[0].fitted) == (True, True, False)
    assert 1 < ends[1].number < 50
    for index in (1, 3):
        (alone,) = (end(StackedTrainer([recipes[index]], digits)).finished[0],)
        assert alone.epoch.number == ends[index].number
        assert alone.epoch.loss == pytest.approx(ends[index].loss, rel=1e-3)
        for name, value in alone.weights.items():
            torch.testing.assert_close(stage.finished[index].weights[name], value, rtol=1e-3, atol=1e-4)


def test_an_accuracy_may_be_the_target(digits: Data) -> None:
    """With a loss that any network has, training ends at the accuracy, confirmed by a full pass."""
    recipe = replace(RECIPE, target_loss=100.0, target_accuracy=0.8, max_epochs=60)
    group = StackedTrainer([recipe], digits)
    stage = end(group)
    assert stage.finished[0].epoch.fitted
    module = group.load(stage.finished[0].weights).eval()
    right = (module(group.inputs).argmax(1) == group.targets[0]).double().mean()
    assert 0.8 <= float(right) < 1.0
    assert 1 < stage.epoch < 60


def same(one: TrainingState, other: TrainingState) -> bool:
    tensors, row = pack_state(one)
    others, other_row = pack_state(other)
    return row == other_row and all(torch.equal(tensors[name], value) for name, value in others.items())


@pytest.mark.parametrize("cls", OPTIMIZERS, ids=lambda cls: cls.name)
@pytest.mark.parametrize("count", [1, 3])
def test_a_stage_that_was_packed_goes_on_bit_by_bit(cls: type[Optimizer], count: int, digits: Data) -> None:
    recipes = [replace(recipe, max_epochs=3 - place) for place, recipe in enumerate(varied(SmallMlp(), cls))][:count]
    group = StackedTrainer(recipes, digits)
    stage = group.advance(group.begin())
    tensors, row = pack_state(stage)
    again = unpack_state({name: tensors[name] for name in sorted(tensors)}, row, device="cpu")  # files sort their names
    assert same(stage, again)
    straight, resumed = end(group, stage), end(StackedTrainer(recipes, digits), again)
    for index, network in straight.finished.items():
        assert resumed.finished[index].epoch == network.epoch
        assert resumed.finished[index].curve == network.curve
        assert list(network.curve) == [str(epoch) for epoch in range(1, network.epoch.number + 1)]
        assert network.curve[str(network.epoch.number)] == pytest.approx(network.epoch.loss, rel=5e-4)
        assert all(torch.equal(resumed.finished[index].weights[name], value) for name, value in network.weights.items())


def test_a_stage_is_never_written_to(digits: Data) -> None:
    group = StackedTrainer([RECIPE, replace(RECIPE, seed=1)], digits)
    stage = group.advance(group.begin())
    kept = unpack_state(*pack_state(stage), device="cpu")
    ends = [end(group, stage), end(group, stage)]
    assert same(stage, kept)
    assert torch.equal(*(each.finished[1].weights["layer0.weight"] for each in ends))


def test_a_stage_of_an_earlier_version_goes_on_with_the_rest_of_the_curve(digits: Data) -> None:
    recipes = [replace(RECIPE, max_epochs=3), replace(RECIPE, seed=1, max_epochs=1)]
    group = StackedTrainer(recipes, digits)
    tensors, row = pack_state(group.advance(group.begin()))
    del row["curves"]
    row["finished"]["1"].pop("curve")
    finished = end(group, unpack_state(tensors, row, device="cpu")).finished
    assert (list(finished[0].curve), dict(finished[1].curve)) == (["2", "3"], {})


def test_an_epoch_of_a_diverged_network_survives_packing(digits: Data) -> None:
    stage = end(StackedTrainer([replace(RECIPE, learning_rate=1e30)], digits))
    again = unpack_state(*pack_state(stage), device="cpu")
    assert again.finished[0].epoch.diverged
    assert repr(again.finished[0].epoch) == repr(stage.finished[0].epoch)
    assert isinstance(stage.finished[0].epoch, Epoch)


class Unusual(nn.Module):
    """Batch norm, dropout, a frozen parameter, a tied one and one that is not used."""

    def __init__(self, width: int = 16, *, dropout: float = 0.3) -> None:
        super().__init__()
        self.first = nn.Linear(784, width)
        self.norm = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(dropout)
        self.middle = nn.Linear(width, width, bias=False)
        self.again = nn.Linear(width, width, bias=False)
        self.again.weight = self.middle.weight
        self.last = nn.Linear(width, 10)
        self.frozen = nn.Parameter(torch.full((width,), 0.5), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.drop(torch.relu(self.norm(self.first(inputs.flatten(1)))))
        logits: Tensor = self.last(self.again(torch.relu(self.middle(hidden))) * self.frozen)
        return logits


class UnusualModel(SmallMlp):
    """The recipe's word for it."""

    dropout: Any = 0.3

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        return Unusual(dropout=self.dropout)


class WithoutDropout(UnusualModel):
    dropout = 0.0


class Scaled(nn.Module):
    """Its outputs have a factor, which has no dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.factor = nn.Linear(784, 10), nn.Parameter(torch.tensor(1.0))

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layer(inputs.flatten(1)) * self.factor
        return logits


class ScaledModel(SmallMlp):
    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        return Scaled()


def test_a_parameter_without_dimensions_is_trained(digits: Data) -> None:
    recipes = [replace(RECIPE, model=ScaledModel(), seed=seed, max_epochs=2) for seed in range(2)]
    stage = end(StackedTrainer(recipes, digits))
    assert len(stage.finished) == 2
    for each in stage.finished.values():
        assert not each.epoch.diverged
        assert float(each.weights["factor"]) != 1.0


@pytest.mark.parametrize("optimizer", [Sgd(), Sam(), Asam(), FriendlySam()], ids=lambda each: each.name)
def test_any_module_trains_as_torch_trains_it(optimizer: Sgd, digits: Data) -> None:
    """Two passes a step, running statistics only from the first; frozen parameters stay, unused ones decay."""
    recipe = replace(RECIPE, model=WithoutDropout(), optimizer=optimizer, weight_decay=1e-2, decay=0.0)
    group = StackedTrainer([recipe], digits, dtype=torch.float64)
    module = Unusual(dropout=0.0).double().train()
    module.load_state_dict(group.module.state_dict())
    trained = [value for value in module.parameters() if value.requires_grad]
    descent = torch.optim.SGD(trained, lr=recipe.learning_rate, momentum=0.9, weight_decay=1e-2)
    order, mean = torch.Generator().manual_seed(0), [torch.zeros_like(value) for value in trained]
    order.set_state(group.begin().orders[0].clone())
    for step, batch in enumerate([part for _ in range(2) for part in torch.randperm(84, generator=order).split(8)]):
        gradients = slopes(module, trained, group.inputs[batch], group.targets[0, batch])
        if optimizer != Sgd():
            kept = {name: value.clone() for name, value in module.named_buffers()}
            ascent = [gradient - average if isinstance(optimizer, FriendlySam) else gradient
                      for gradient, average in zip(gradients, mean, strict=True)]  # fmt: skip
            mean = [(0.9 * average + 0.1 * gradient if step else gradient)
                    for gradient, average in zip(gradients, mean, strict=True)]  # fmt: skip
            scales = [
                (value.detach().abs() + 0.01 if "weight" in name else torch.ones_like(value))
                if isinstance(optimizer, Asam)
                else torch.ones_like(value)
                for name, value in module.named_parameters()
                if value.requires_grad
            ]
            length = (
                sum(float((scale * part).square().sum()) for scale, part in zip(scales, ascent, strict=True)) ** 0.5
            )
            moves = [
                optimizer.rho * scale**2 * part / length  # type: ignore[attr-defined]
                for scale, part in zip(scales, ascent, strict=True)
            ]
            with torch.no_grad():
                for value, move in zip(trained, moves, strict=True):
                    value.add_(move)
            gradients = slopes(module, trained, group.inputs[batch], group.targets[0, batch])
            with torch.no_grad():
                for value, move in zip(trained, moves, strict=True):
                    value.sub_(move)
                for name, buffer in module.named_buffers():
                    buffer.copy_(kept[name])
        for value, gradient in zip(trained, gradients, strict=True):
            value.grad = gradient
        descent.step()
    state = group.state_dict(end(group).finished[0].weights)
    assert state.keys() == module.state_dict().keys()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-10)
    assert int(state["norm.num_batches_tracked"]) == 22
    assert torch.equal(state["frozen"], torch.full((16,), 0.5, dtype=torch.float64))
    assert float(state["unused"][0]) < 1.0


def slopes(module: nn.Module, trained: list[nn.Parameter], inputs: Tensor, targets: Tensor) -> list[Tensor]:
    loss = nn.functional.cross_entropy(module(inputs), targets)
    return list(torch.autograd.grad(loss, trained, materialize_grads=True))


def test_what_a_network_draws_is_drawn_again(digits: Data) -> None:
    """Dropout: the same network whatever was drawn before, also from the middle; another seed draws otherwise."""
    recipe = replace(RECIPE, model=UnusualModel(), max_epochs=3)
    (first,) = weights([recipe], digits)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    group = StackedTrainer([recipe], digits)
    again = end(group, unpack_state(*pack_state(group.advance(group.begin())), device="cpu")).finished[0].weights
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], value) for name, value in again.items())
    without = weights([replace(recipe, model=WithoutDropout())], digits)[0]
    assert not torch.equal(first["first.weight"], without["first.weight"])
