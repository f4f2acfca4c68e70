"""Members: a network comes from the cache as it came from training, and its subject is its own."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from sharpbench.datasets import Digits
from sharpbench.datasets.dataset import Data
from sharpbench.models import SmallMlp
from sharpbench.training.examples import evaluate_module, initial_module, training_examples
from sharpbench.training.network import TrainedNetwork, TrainingResult
from sharpbench.training.population import Population
from sharpbench.training.recipe import Recipe, network_key
from sharpbench.training.state import Epoch
from sharpbench.training.zoo import RESULT, WEIGHTS, Zoo

RECIPE = Recipe(model=SmallMlp(), dataset=Digits(), train_size=48, label_noise=0.5, batch_size=20, max_epochs=2)


@pytest.fixture(scope="module")
def digits() -> Data:
    return Digits().load(None)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def member_of(recipe: Recipe, digits: Data, folder: Path) -> tuple[TrainedNetwork, list[Epoch]]:
    steps, epochs = Population([recipe], digits, "hash", cache=folder, device="cpu").obtain_network(recipe), []
    while True:
        try:
            epochs.append(next(steps).epoch)
        except StopIteration as end:
            return end.value, epochs


def test_a_subject_keeps_its_weights_when_the_next_takes_the_module(digits: Data, cache: Path) -> None:
    """One module serves all networks of a model: a subject that shared its weights would change with the next."""
    module = initial_module(RECIPE, digits.shape, digits.classes)
    first, other = (member_of(recipe, digits, cache)[0] for recipe in (RECIPE, replace(RECIPE, seed=1)))
    subject = first.subject(module, examples=None, dtype=torch.float32, device="cpu")
    loss = float(subject.loss(subject.params))
    later = other.subject(module, examples=None, dtype=torch.float32, device="cpu")
    assert float(subject.loss(subject.params)) == loss
    assert float(later.loss(later.params)) != loss
    assert all(torch.equal(subject.params[name], value) for name, value in first.weights.items())
    assert loss == pytest.approx(first.result.train_loss, rel=1e-6)


@pytest.mark.parametrize(("examples", "n"), [(None, 48), (7, 7), (48, 48)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_subject_holds_the_first_training_examples(
    examples: int | None, n: int, dtype: torch.dtype, digits: Data, cache: Path
) -> None:
    member, _ = member_of(RECIPE, digits, cache)
    module = initial_module(RECIPE, digits.shape, digits.classes)
    subject = member.subject(module, examples=examples, dtype=dtype, device="cpu")
    inputs, targets = training_examples(RECIPE, digits)
    assert torch.equal(subject.inputs, inputs[:n].to(dtype))
    assert torch.equal(subject.targets, targets[:n])
    assert {value.dtype for value in subject.params.values()} == {dtype}
    assert subject.train_size == 48
    assert subject.initial is not None
    start = dict(initial_module(RECIPE, digits.shape, digits.classes).named_parameters())
    assert subject.initial.keys() == start.keys()
    assert all(torch.equal(subject.initial[name], value.to(dtype)) for name, value in start.items())
    assert not any(torch.equal(subject.initial[name], value) for name, value in subject.params.items())


def test_a_network_from_the_cache_is_the_one_that_was_trained(digits: Data, tmp_path: Path) -> None:
    trained, epochs = member_of(RECIPE, digits, tmp_path)
    loaded, none = member_of(RECIPE, digits, tmp_path)
    assert ([epoch.number for epoch in epochs], none) == ([1, 2], [])
    assert loaded.result == trained.result
    for name in ("weights", "initial"):
        one, other = getattr(trained, name), getattr(loaded, name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert torch.equal(loaded.inputs, trained.inputs)
    assert torch.equal(loaded.targets, trained.targets)


@pytest.mark.parametrize("file", [WEIGHTS, RESULT])
def test_a_damaged_network_is_trained_anew_and_comes_out_the_same(file: str, digits: Data, tmp_path: Path) -> None:
    trained, _ = member_of(RECIPE, digits, tmp_path)
    (path,) = tmp_path.rglob(file)
    path.write_bytes(path.read_bytes()[:-3])
    again, epochs = member_of(RECIPE, digits, tmp_path)
    assert len(epochs) == 2
    assert all(torch.equal(again.weights[name], value) for name, value in trained.weights.items())
    assert replace(again.result, seconds=0.0) == replace(trained.result, seconds=0.0)
    assert member_of(RECIPE, digits, tmp_path)[1] == []


def test_the_truth_is_what_the_network_does(digits: Data, cache: Path) -> None:
    member, epochs = member_of(RECIPE, digits, cache)
    module = initial_module(RECIPE, digits.shape, digits.classes)
    module.load_state_dict(member.weights)
    truth = member.result
    assert (truth.train_loss, truth.train_accuracy) == evaluate_module(module, *training_examples(RECIPE, digits))
    assert (truth.test_loss, truth.test_accuracy) == evaluate_module(module, digits.test_inputs, digits.test_targets)
    assert truth.gap == truth.train_accuracy - truth.test_accuracy
    assert (truth.epochs, truth.steps, truth.fitted, truth.diverged) == (2, 2 * 3, False, False)
    assert truth.parameter_norm == pytest.approx(
        math.sqrt(sum(float(value.double().square().sum()) for value in member.weights.values())), rel=1e-12
    )
    assert truth.seconds > 0
    assert set(truth.row()) == {item.name for item in fields(TrainingResult)}
    assert json.loads(json.dumps(truth.row(), allow_nan=False)) == truth.row()
    assert len(epochs) in (0, 2)


def test_a_network_that_diverged_has_no_losses(digits: Data, tmp_path: Path) -> None:
    member, _ = member_of(replace(RECIPE, learning_rate=1e9, max_epochs=9), digits, tmp_path)
    truth = member.result
    assert (truth.train_loss, truth.test_loss, truth.parameter_norm, truth.fitted) == (None, None, None, False)
    assert truth.diverged
    assert 0 <= truth.train_accuracy <= 1
    assert member_of(replace(RECIPE, learning_rate=1e9, max_epochs=9), digits, tmp_path)[0].result == truth


def test_the_zoo_says_what_a_trained_network_came_of(digits: Data, tmp_path: Path) -> None:
    member_of(RECIPE, digits, tmp_path)
    ((entry,), others) = Zoo(tmp_path).entries()
    assert others == 0
    assert entry.origin is not None
    assert (entry.origin.recipe, entry.origin.data, entry.origin.device) == (RECIPE.row(), "hash", "cpu")
    assert entry.key == network_key(RECIPE, "hash", "cpu")
