"""Recipes, label noise, SGD, the zoo and members: what is trained is what was said, once."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sharpbench.datasets import Digits
from sharpbench.datasets.dataset import Data
from sharpbench.errors import InvalidInput
from sharpbench.models import Mlp, SmallMlp
from sharpbench.training import zoo as zoo_module
from sharpbench.training.cohorts import LabelNoise, LabelNoisePaper
from sharpbench.training.examples import (
    evaluate_module,
    generator_for,
    initial_module,
    permute_labels,
    training_examples,
)
from sharpbench.training.network import TrainedNetwork
from sharpbench.training.optimizers import Sgd
from sharpbench.training.population import CHECKPOINT_FOLDER, Population, TrainingEpoch
from sharpbench.training.recipe import Recipe
from sharpbench.training.state import Epoch, TrainingState
from sharpbench.training.trainer import StackedTrainer
from sharpbench.training.zoo import FORMAT, RESULT, WEIGHTS, Zoo

RECIPE = Recipe(model=SmallMlp(), dataset=Digits(), train_size=96, label_noise=0.5, learning_rate=0.02, batch_size=40)


@pytest.fixture(scope="module")
def digits() -> Data:
    return Digits().load(None)


def member_of(recipe: Recipe, data: Data, cache: Path, digest: str = "hash") -> tuple[TrainedNetwork, int]:
    """The member, and how many epochs it took to get it."""
    steps = Population([recipe], data, digest, cache=cache, device="cpu").obtain_network(recipe)
    count = 0
    while True:
        try:
            assert isinstance(next(steps), TrainingEpoch)
        except StopIteration as end:
            return end.value, count
        count += 1


def stages(group: StackedTrainer) -> list[TrainingState]:
    """All stages of a training, in order."""
    seen = [group.advance(group.begin())]
    while seen[-1].active:
        seen.append(group.advance(seen[-1]))
    return seen


def epochs_of(recipe: Recipe, data: Data, dtype: torch.dtype = torch.float32) -> list[Epoch]:
    return [stage.epochs[0] for stage in stages(StackedTrainer([recipe], data, dtype=dtype))]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_label_noise_permutes_a_share_of_the_labels(share: float) -> None:
    targets = torch.arange(1000)
    noisy = permute_labels(targets, share, generator=torch.Generator().manual_seed(0))
    assert torch.equal(noisy.sort().values, targets)
    moved = int((noisy != targets).sum())
    assert moved <= round(share * 1000)
    assert moved >= round(share * 1000) - 10
    assert torch.equal(targets, torch.arange(1000))


def test_networks_of_a_cohort_share_their_inputs_and_nothing_else(digits: Data) -> None:
    other = replace(RECIPE, seed=1)
    assert torch.equal(training_examples(RECIPE, digits)[0], training_examples(other, digits)[0])
    assert not torch.equal(training_examples(RECIPE, digits)[1], training_examples(other, digits)[1])
    weights = [
        initial_module(recipe, digits.shape, 10).state_dict()["layer0.weight"] for recipe in (RECIPE, RECIPE, other)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    state = torch.random.get_rng_state()
    initial_module(RECIPE, digits.shape, 10)
    assert torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(InvalidInput, match="train_size=5000 exceeds the 1437 training examples of 'digits'"):
        training_examples(replace(RECIPE, train_size=5000), digits)


def test_training_is_sgd_with_momentum_decay_and_the_papers_schedule(digits: Data) -> None:
    """Against a plain transcription: v = 0.9 v + g + 1e-2 w; w = w - rate / (decay t + 1) v."""
    recipe = replace(RECIPE, weight_decay=1e-2, decay=0.5, max_epochs=3, target_loss=1e-9)
    inputs, targets = training_examples(recipe, digits)
    inputs = inputs.double()
    module = initial_module(recipe, digits.shape, 10).double()
    params = {key: value.detach().clone() for key, value in module.named_parameters()}
    passed = stages(StackedTrainer([recipe], digits, dtype=torch.float64))
    epochs = [stage.epochs[0] for stage in passed]
    velocity = {key: torch.zeros_like(value) for key, value in params.items()}
    order, step = generator_for(recipe, "order"), 0
    for _ in range(3):
        for batch in torch.randperm(len(inputs), generator=order).split(40):

            def loss(values: dict[str, torch.Tensor], batch: torch.Tensor = batch) -> torch.Tensor:
                return F.cross_entropy(torch.func.functional_call(module, values, (inputs[batch],)), targets[batch])

            gradients = torch.func.grad(loss)(params)
            for key, gradient in gradients.items():
                velocity[key] = 0.9 * velocity[key] + gradient + 1e-2 * params[key]
                params[key] = params[key] - recipe.learning_rate / (0.5 * step + 1) * velocity[key]
            step += 1
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert epochs[-1].steps == step == 9
    assert not epochs[-1].fitted
    for key, value in passed[-1].finished[0].weights.items():
        torch.testing.assert_close(value, params[key], rtol=1e-9, atol=1e-12)


def test_a_network_is_trained_once_and_its_truth_is_what_it_does(digits: Data, tmp_path: Path) -> None:
    member, epochs = member_of(RECIPE, digits, tmp_path)
    again, none = member_of(RECIPE, digits, tmp_path)
    assert epochs == member.result.epochs > 1
    assert none == 0
    assert again.result == member.result
    assert all(torch.equal(again.weights[key], value) for key, value in member.weights.items())
    module = RECIPE.model.build(digits.shape, 10)
    module.load_state_dict(member.weights)
    loss, accuracy = evaluate_module(module, *training_examples(RECIPE, digits))
    right = (module(digits.test_inputs).argmax(1) == digits.test_targets).double().mean()
    assert member.result.fitted
    assert (loss, accuracy) == (member.result.train_loss, 1.0)
    assert member.result.gap == pytest.approx(1.0 - float(right))
    assert member.result.parameter_norm == pytest.approx(
        sum(float(v.square().sum()) for v in member.weights.values()) ** 0.5
    )
    assert torch.equal(member.initial["layer0.weight"], initial_module(RECIPE, digits.shape, 10).layer0.weight.detach())
    subject = member.subject(module, examples=10, dtype=torch.float64, device="cpu")
    assert (len(subject.inputs), subject.train_size, subject.name) == (10, 96, "small-mlp")


def test_what_diverges_is_not_fitted(digits: Data, tmp_path: Path) -> None:
    member, _ = member_of(replace(RECIPE, learning_rate=1e9), digits, tmp_path)
    assert not member.result.fitted
    assert member.result.train_loss is None
    with pytest.raises(InvalidInput, match="weights are not finite"):
        member.subject(RECIPE.model.build(digits.shape, 10), examples=None, dtype=torch.float32, device="cpu")


def test_half_written_and_damaged_entries_are_no_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo, weights = Zoo(tmp_path), {"w": torch.arange(4.0)}
    zoo.save("k", weights, {"gap": 0.5})
    loaded = zoo.load("k")
    assert loaded is not None
    assert torch.equal(loaded[0]["w"], weights["w"])
    assert loaded[1] == {"gap": 0.5}
    entry = tmp_path / "networks" / "k"
    packed, result = (entry / WEIGHTS).read_bytes(), (entry / RESULT).read_text(encoding="utf-8")
    (entry / WEIGHTS).write_bytes(packed[:-1])
    assert zoo.load("k") is None
    (entry / WEIGHTS).write_bytes(packed)
    for damaged in (
        "",
        "{}",
        "[]",
        result.replace(f'"format": {FORMAT}', '"format": 0'),
        json.dumps({**json.loads(result), "sha256": "0"}),
    ):
        (entry / RESULT).write_text(damaged, encoding="utf-8")
        assert zoo.load("k") is None
    zoo.save("k", weights, {"gap": 0.25})
    assert zoo.load("k") is not None
    assert zoo.load("none") is None

    def torn(path: Path, content: bytes, **_: bool) -> None:
        path.write_bytes(content[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo_module, "atomic_write", torn)
    with pytest.raises(KeyboardInterrupt):
        zoo.save("other", weights, {})
    assert zoo.load("other") is None
    assert [path.name for path in (tmp_path / "networks").iterdir()] == ["k"]


def test_a_cache_that_cannot_be_written_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"cannot write .*; choose another folder with --cache-dir"):
        Zoo(tmp_path / "file").save("k", {}, {})


def test_cohorts_are_grids(digits: Data) -> None:
    recipes = LabelNoise(ratios=5, seeds=2).recipes((SmallMlp(), Mlp(bias=False)), Digits())
    assert len({recipe.key for recipe in recipes}) == len(recipes) == 2 * 5 * 2
    assert Counter(recipe.label_noise for recipe in recipes) == dict.fromkeys((0.0, 0.25, 0.5, 0.75, 1.0), 4)
    assert recipes[-1].row()["model"] == "mlp[bias=false]"
    paper = LabelNoisePaper().recipes((Mlp(),), Digits())
    assert len(paper) == 110
    assert {(recipe.batch_size, recipe.learning_rate, recipe.train_size) for recipe in paper} == {(1024, 0.1, None)}
    assert {recipe.label_noise for recipe in paper} == {round(step / 10, 6) for step in range(11)}
    for cohort, message in (
        (LabelNoise, "ratios=1 must be at least 2"),
        (LabelNoisePaper, "ratios=1 must be at least 2"),
    ):
        with pytest.raises(InvalidInput, match=message):
            cohort(ratios=1)
    with pytest.raises(InvalidInput, match="seeds=0 must be at least 1"):
        LabelNoise(seeds=0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("label_noise", 1.5), ("label_noise", -0.1), ("learning_rate", 0.0), ("target_accuracy", 1.5)),
        *(
            ("weight_decay", -1.0),
            ("decay", -1.0),
            ("batch_size", 0),
            ("max_epochs", 0),
            ("target_loss", 0.0),
            ("train_size", 0),
        ),
    ],
)
def test_recipes_have_bounds(field: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=f"{field}={value} must be"):
        replace(RECIPE, **{field: value})


@pytest.mark.parametrize("n", [1, 2, 7, 100])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_noise_moves_labels_only_within_the_chosen_share(n: int, share: float, seed: int) -> None:
    """Distinct labels show where each went: the chosen ones are permuted among themselves, the others stay."""
    targets = torch.arange(n) * 3
    noisy = permute_labels(targets, share, generator=torch.Generator().manual_seed(seed))
    moved = noisy != targets
    assert sorted(noisy.tolist()) == targets.tolist()
    assert int(moved.sum()) <= round(share * n)
    assert sorted(noisy[moved].tolist()) == sorted(targets[moved].tolist())
    assert torch.equal(noisy, permute_labels(targets, share, generator=torch.Generator().manual_seed(seed)))


def test_noise_falls_everywhere_and_keeps_what_chance_keeps() -> None:
    """Of m permuted labels one stays on average; of ten equally frequent classes one tenth keep their class."""
    n, share, repeats = 50, 0.4, 2000
    moved = torch.zeros(n)
    kept = 0
    for seed in range(repeats):
        noisy = permute_labels(torch.arange(n), share, generator=torch.Generator().manual_seed(seed))
        changed = noisy != torch.arange(n)
        moved += changed
        kept += 20 - int(changed.sum())
    expected = repeats * share * (1 - 1 / 20)  # chosen, and not sent to itself
    deviation = (repeats * share * (1 - share)) ** 0.5
    assert float((moved - expected).abs().max()) < 5 * deviation
    assert kept / repeats == pytest.approx(1.0, abs=5 / repeats**0.5)
    classes = torch.arange(10).repeat_interleave(200)
    noisy = permute_labels(classes, 1.0, generator=torch.Generator().manual_seed(0))
    assert float((noisy == classes).double().mean()) == pytest.approx(0.1, abs=0.03)


def trained(recipe: Recipe, digits: Data) -> dict[str, torch.Tensor]:
    return stages(StackedTrainer([recipe], digits))[-1].finished[0].weights


SHORT = replace(RECIPE, max_epochs=2, train_size=50)


def test_the_same_recipe_gives_the_same_network_bit_by_bit(digits: Data) -> None:
    first = trained(SHORT, digits)
    torch.manual_seed(123)
    torch.rand(5)
    again = trained(SHORT, digits)
    assert all(torch.equal(first[name], value) for name, value in again.items())


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"seed": 1},
            {"label_noise": 0.25},
            {"learning_rate": 0.021},
            {"optimizer": Sgd(momentum=0.8)},
            {"weight_decay": 1e-3},
        ),
        *({"decay": 0.1}, {"batch_size": 25}, {"train_size": 49}, {"max_epochs": 3}, {"model": SmallMlp(bias=False)}),
    ],
    ids=str,
)
def test_any_other_recipe_gives_another_network(digits: Data, change: dict[str, Any]) -> None:
    first, other = trained(SHORT, digits), trained(replace(SHORT, **change), digits)
    assert not any(torch.equal(first[name], value) for name, value in other.items())


def test_draws_of_one_recipe_are_independent_of_each_other() -> None:
    purposes = ("initialisation", "label noise", "order")
    draws = [
        tuple(torch.rand(3, generator=generator_for(recipe, purpose)).tolist())
        for recipe in (RECIPE, replace(RECIPE, seed=1), replace(RECIPE, label_noise=0.25))
        for purpose in purposes
    ]
    assert len(set(draws)) == 9
    assert torch.equal(
        torch.rand(3, generator=generator_for(RECIPE, "order")), torch.rand(3, generator=generator_for(RECIPE, "order"))
    )


def test_training_examples_are_a_growing_subset(digits: Data) -> None:
    """Networks on more examples see those of the networks on fewer; without noise every label is its image's own."""
    clean = replace(RECIPE, label_noise=0.0)
    few, many = (training_examples(replace(clean, train_size=size), digits) for size in (10, 200))
    assert torch.equal(few[0], many[0][:10])
    assert torch.equal(few[1], many[1][:10])
    everything, labels = training_examples(replace(clean, train_size=None), digits)
    assert len(everything) == len(digits.train_inputs)
    assert torch.equal(labels.bincount(), digits.train_targets.bincount())
    pairs = {(image.numpy().tobytes(), int(label)) for image, label in zip(*many, strict=True)}
    known = zip(digits.train_inputs, digits.train_targets, strict=True)
    assert pairs <= {(image.numpy().tobytes(), int(label)) for image, label in known}
    noisy = training_examples(replace(clean, train_size=200, label_noise=1.0), digits)
    assert torch.equal(noisy[0], many[0])
    assert torch.equal(noisy[1].bincount(minlength=10), many[1].bincount(minlength=10))


def test_the_loss_of_an_epoch_is_the_mean_over_its_examples(digits: Data) -> None:
    """At a rate of nearly nothing it is the loss of the untouched network, whatever the ragged last batch."""
    still = replace(RECIPE, learning_rate=1e-12, batch_size=40, max_epochs=2)
    inputs, targets = training_examples(still, digits)
    module = initial_module(still, digits.shape, 10).double()
    loss, accuracy = evaluate_module(module, inputs.double(), targets)
    epochs = epochs_of(still, digits, torch.float64)
    assert [epoch.loss for epoch in epochs] == pytest.approx([loss, loss], rel=1e-8)
    assert [epoch.steps for epoch in epochs] == [3, 6]
    assert accuracy < 0.5
    assert not epochs[-1].fitted


def test_training_ends_with_the_epoch_that_fits(digits: Data) -> None:
    easy = replace(RECIPE, target_loss=0.2, label_noise=0.0, train_size=64, batch_size=16, learning_rate=0.02)
    inputs, targets = training_examples(easy, digits)
    group = StackedTrainer([easy], digits)
    fits = []
    for stage in stages(group):
        epoch = stage.epochs[0]
        loss, accuracy = evaluate_module(
            group.load(stage.weights(0) if stage.active else stage.finished[0].weights), inputs, targets
        )
        fits.append(epoch.loss <= 0.2 and loss <= 0.2 and accuracy == 1.0)
        assert epoch.fitted == fits[-1]
    assert fits[-1]
    assert not any(fits[:-1])
    assert 1 < len(fits) < easy.max_epochs


def test_a_target_below_reach_ends_at_the_budget(digits: Data) -> None:
    endless = replace(SHORT, target_loss=1e-12, max_epochs=4)
    epochs = epochs_of(endless, digits)
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4]
    assert not epochs[-1].fitted


def test_a_loss_that_is_no_number_ends_the_training(digits: Data) -> None:
    wild = replace(RECIPE, learning_rate=1e30, max_epochs=100)
    epochs = epochs_of(wild, digits)
    assert len(epochs) < 5
    assert not math.isfinite(epochs[-1].loss)
    assert not any(epoch.fitted for epoch in epochs)
    assert [epoch.diverged for epoch in epochs] == [False] * (len(epochs) - 1) + [True]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 512])
def test_evaluation_is_the_mean_in_eval_mode(batch_size: int) -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 3)).double()
    inputs, targets = torch.randn(7, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    module.train()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    loss, accuracy = evaluate_module(module, inputs, targets, batch_size=batch_size)
    assert module.training
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    logits = module.eval()(inputs).detach()
    shares = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = -sum(math.log(float(shares[row, target])) for row, target in enumerate(targets.tolist())) / 7
    assert loss == pytest.approx(expected, rel=1e-12)
    assert accuracy == sum(int(logits[row].argmax()) == target for row, target in enumerate(targets.tolist())) / 7
    assert evaluate_module(module, inputs, targets) == pytest.approx((loss, accuracy), rel=1e-12)
    assert not module.training


def test_the_gap_is_of_accuracies_on_the_noisy_labels(digits: Data, tmp_path: Path) -> None:
    hard = replace(RECIPE, label_noise=1.0, max_epochs=3)
    member, _ = member_of(hard, digits, tmp_path)
    module = initial_module(hard, digits.shape, 10)
    module.load_state_dict(member.weights)
    inputs, targets = training_examples(hard, digits)
    right = float((module(inputs).argmax(1) == targets).double().mean())
    test_right = float((module(digits.test_inputs).argmax(1) == digits.test_targets).double().mean())
    assert member.result.train_accuracy == pytest.approx(right)
    assert member.result.test_accuracy == pytest.approx(test_right)
    assert member.result.gap == pytest.approx(right - test_right)
    assert (member.result.fitted, member.result.epochs, member.result.steps) == (False, 3, 3 * 3)
    assert torch.equal(member.targets, targets)


def test_other_data_or_another_device_kind_is_another_entry(digits: Data, tmp_path: Path) -> None:
    assert member_of(SHORT, digits, tmp_path, "one")[1] == 2
    assert member_of(SHORT, digits, tmp_path, "one")[1] == 0
    assert member_of(SHORT, digits, tmp_path, "two")[1] == 2


def test_a_training_that_is_interrupted_leaves_a_checkpoint_and_no_entry(digits: Data, tmp_path: Path) -> None:
    steps = Population([SHORT], digits, "hash", cache=tmp_path, device="cpu").obtain_network(SHORT)
    next(steps)
    steps.close()
    assert [path.parent.parent.name for path in tmp_path.rglob("*.safetensors")] == [CHECKPOINT_FOLDER]
    assert member_of(SHORT, digits, tmp_path)[1] == 1
    assert not list((tmp_path / CHECKPOINT_FOLDER).iterdir())
