"""Augmentation of signals: what is drawn, that it is repeatable, and that it changes training but not the targets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sharpbench.datasets import Data, Digits, Mnist1d
from sharpbench.errors import InvalidInput
from sharpbench.models import Mlp1d, SmallMlp
from sharpbench.runner.plan_checks import check_recipes
from sharpbench.training.augmentation import Augmentation
from sharpbench.training.recipe import Recipe, available_parts, parse_recipe
from sharpbench.training.signals import NOISE_DEVIATION, SCALE_RANGE, SHEAR_RANGE
from sharpbench.training.trainer import StackedTrainer, group_recipes

PLAIN = Recipe(model=Mlp1d(width=5), dataset=Mnist1d(), train_size=12, batch_size=8, target_loss=1e-9, max_epochs=3)
WEAK, STRONG = replace(PLAIN, augmentation=0.25, seed=1), replace(PLAIN, augmentation=1.0, seed=2)


def signals() -> Data:
    inputs = torch.randn(24, 1, 40, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(24) % 10
    return Data(inputs[:16], targets[:16], inputs[16:], targets[16:], classes=10)


def test_changes_are_scale_shear_and_noise_within_the_ranges() -> None:
    flat = torch.zeros(1, 2000, 1, 40)
    changed = Augmentation([STRONG], 1).augment(flat)[0, :, 0]  # [2000, 40], shear and noise only
    line = torch.linspace(-0.5, 0.5, 40)
    shears = -(changed @ line) / (line @ line)
    assert float(shears.abs().max()) == pytest.approx(SHEAR_RANGE / 2, rel=0.05)
    assert float(shears.mean()) == pytest.approx(0, abs=0.15)
    rest = changed + shears[:, None] * line
    assert float(rest.std()) == pytest.approx(NOISE_DEVIATION, rel=0.03)
    high = torch.full((1, 2000, 1, 40), 1000.0)
    scales = Augmentation([STRONG], 1).augment(high).mean(-1).flatten() / 1000
    assert (float(scales.min()), float(scales.max())) == pytest.approx(
        (1 - SCALE_RANGE / 2, 1 + SCALE_RANGE / 2), abs=2e-3
    )


def test_draws_belong_to_network_and_epoch_only() -> None:
    inputs = torch.randn(2, 3, 1, 40)
    together = Augmentation([WEAK, STRONG], 1).augment(inputs)
    alone = Augmentation([STRONG], 1).augment(inputs[1:])
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(Augmentation([STRONG], 2).augment(inputs[1:]), alone)
    assert torch.equal(Augmentation([PLAIN], 1).augment(inputs[:1]), inputs[:1])


def test_training_sees_changed_examples_and_is_judged_on_the_unchanged_ones() -> None:
    data = signals()
    easy = replace(WEAK, target_loss=1e6, target_accuracy=0.0)
    states = {}
    for recipe in (replace(PLAIN, seed=1), WEAK, easy):
        trainer = StackedTrainer([recipe], data)
        states[recipe] = trainer.advance(trainer.begin())
    losses = [state.epochs[0].loss for state in states.values()]
    assert losses[0] != losses[1]
    assert [state.epochs[0].fitted for state in states.values()] == [False, False, True]
    assert torch.equal(StackedTrainer([WEAK], data).inputs, StackedTrainer([PLAIN], data).inputs)


def test_augmented_networks_train_apart_from_others() -> None:
    assert group_recipes((PLAIN, WEAK, STRONG), lambda recipe: 16) == ((PLAIN,), (WEAK, STRONG))


def test_recipes_without_it_keep_their_keys_and_with_it_are_read_back() -> None:
    assert "augmentation" not in PLAIN.row()
    assert WEAK.row()["augmentation"] == 0.25
    offered = available_parts()
    assert parse_recipe(PLAIN.row(), offered) == PLAIN
    assert parse_recipe(WEAK.row(), offered) == WEAK
    with pytest.raises(InvalidInput, match=r"augmentation=0\.0 must be left out"):
        parse_recipe({**PLAIN.row(), "augmentation": 0.0}, offered)
    assert len({PLAIN.key, replace(PLAIN, augmentation=0.25).key}) == 2


def test_only_signals_are_augmented_and_by_a_share() -> None:
    images = Data(torch.zeros(9, 1, 4, 4), torch.zeros(9).long(), torch.zeros(2, 1, 4, 4), torch.zeros(2).long(), 2)
    recipe = Recipe(model=SmallMlp(), dataset=Digits(), augmentation=0.5)
    with pytest.raises(InvalidInput, match=r"augmentation=0\.5 .* 'digits' has inputs of shape"):
        check_recipes([recipe], images)
    check_recipes([WEAK], signals())
    with pytest.raises(InvalidInput, match=r"augmentation=1\.5 must be from 0 to 1"):
        replace(PLAIN, augmentation=1.5)
