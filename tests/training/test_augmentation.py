"""Augmentation: what is drawn, that it is repeatable, and that it changes training but not the targets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sharpbench.datasets import DATASETS, Cifar10Jpeg, Data, Digits, Mnist1d
from sharpbench.errors import InvalidInput
from sharpbench.models import Mlp1d, SmallCnn, SmallMlp
from sharpbench.runner.plan_checks import check_recipes
from sharpbench.training.augmentation import Augmentation
from sharpbench.training.recipe import Recipe, available_parts, parse_recipe
from sharpbench.training.signals import NOISE_DEVIATION, SCALE_RANGE, SHEAR_RANGE
from sharpbench.training.trainer import StackedTrainer, group_recipes

PLAIN = Recipe(model=Mlp1d(width=5), dataset=Mnist1d(), train_size=12, batch_size=8, target_loss=1e-9, max_epochs=3)
WEAK, STRONG = replace(PLAIN, augmentation=0.25, seed=1), replace(PLAIN, augmentation=1.0, seed=2)
PHOTOGRAPHS = Recipe(model=SmallCnn(), dataset=Cifar10Jpeg(), augmentation=1.0)


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


def crop_one(image: Tensor, top: int, left: int, padding: int) -> Tensor:
    """The window of one image [channels, H, W], padded with 0, that begins at (top, left) and has its size."""
    channels, height, width = image.shape
    padded = torch.zeros(channels, height + 2 * padding, width + 2 * padding)
    padded[:, padding : padding + height, padding : padding + width] = image
    return padded[:, top : top + height, left : left + width]


def matches(changed: Tensor, image: Tensor, padding: int) -> list[tuple[int, int, bool]]:
    """All crops and mirrorings of `image` that equal `changed`."""
    places = range(2 * padding + 1)
    crops = {(top, left): crop_one(image, top, left, padding) for top in places for left in places}
    found = [(top, left, False) for (top, left), crop in crops.items() if torch.equal(crop, changed)]
    return found + [(top, left, True) for (top, left), crop in crops.items() if torch.equal(crop.flip(2), changed)]


@pytest.mark.parametrize(("strength", "padding"), [(1.0, 2), (0.5, 1)])
def test_images_are_cropped_after_padding_and_mirrored(strength: float, padding: int) -> None:
    images = torch.randn(1, 400, 3, 16, 16, generator=torch.Generator().manual_seed(0)) + 3  # no pixel is 0
    recipe = replace(PHOTOGRAPHS, augmentation=strength)
    changed = Augmentation([recipe], 1).augment(images)
    assert changed.shape == images.shape
    each = [matches(new, old, padding) for new, old in zip(changed[0], images[0], strict=True)]
    assert all(len(found) == 1 for found in each)
    tops, lefts, mirrored = zip(*(found[0] for found in each), strict=True)
    assert set(tops) == set(lefts) == set(range(2 * padding + 1))
    assert abs(torch.corrcoef(torch.tensor([tops, lefts]).float())[0, 1]) < 0.2  # drawn apart
    assert sum(mirrored) / 400 == pytest.approx(strength / 2, abs=0.1)


def test_images_are_mirrored_only_where_their_classes_allow_it() -> None:
    images = torch.randn(1, 60, 1, 16, 16) + 9
    changed = Augmentation([replace(PHOTOGRAPHS, dataset=Digits())], 1).augment(images)
    assert not any(
        mirrored for new, old in zip(changed[0], images[0], strict=True) for *_, mirrored in matches(new, old, 2)
    )
    assert [each.name for each in DATASETS if each.mirror_keeps_class] == [
        "fashion-mnist",
        "cifar10",
        "cifar10-jpeg",
        "cifar100",
    ]


def test_images_of_networks_that_train_together_are_changed_as_one_by_one() -> None:
    recipes = [replace(PHOTOGRAPHS, seed=seed, augmentation=strength) for seed, strength in ((0, 1.0), (1, 0.5))]
    images = torch.randn(2, 5, 3, 32, 32)
    together = Augmentation(recipes, 3).augment(images)
    for position, recipe in enumerate(recipes):
        assert torch.equal(together[position], Augmentation([recipe], 3).augment(images[position : position + 1])[0])
    assert not torch.equal(together[0], together[1])
    assert torch.equal(Augmentation(recipes, 3).augment(images), together)


def test_stacked_training_on_changed_images_is_that_of_each_network() -> None:
    generator = torch.Generator().manual_seed(0)
    images = Data(
        torch.randn(24, 3, 16, 16, generator=generator),
        torch.arange(24) % 2,
        torch.zeros(2, 3, 16, 16),
        torch.zeros(2).long(),
        classes=2,
    )
    recipes = [replace(PHOTOGRAPHS, model=SmallCnn(width=2), seed=seed, batch_size=8) for seed in (0, 1)]
    together = StackedTrainer(recipes, images, dtype=torch.float64)
    state = together.advance(together.begin())
    for position, recipe in enumerate(recipes):
        trainer = StackedTrainer([recipe], images, dtype=torch.float64)
        alone = trainer.advance(trainer.begin())
        for name, value in alone.params.items():
            torch.testing.assert_close(state.params[name][position], value[0], rtol=1e-9, atol=1e-11)


def test_only_signals_and_images_are_augmented_and_by_a_share() -> None:
    recipe = Recipe(model=SmallMlp(), dataset=Digits(), augmentation=0.5)
    check_recipes([recipe], images_of(torch.zeros(9, 1, 4, 4)))
    check_recipes([WEAK], signals())
    for inputs in (torch.zeros(9, 4), torch.zeros(9, 1, 4, 4).long(), torch.zeros(9, 1, 4, 4, 4)):
        with pytest.raises(InvalidInput, match=r"augmentation=0\.5 .* 'digits' has inputs of shape .* leave it at 0"):
            check_recipes([recipe], images_of(inputs))
    with pytest.raises(InvalidInput, match=r"augmentation=1\.5 must be from 0 to 1"):
        replace(PLAIN, augmentation=1.5)


def images_of(inputs: Tensor) -> Data:
    return Data(inputs, torch.zeros(len(inputs)).long(), inputs[:2], torch.zeros(2).long(), 2)
