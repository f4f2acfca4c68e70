"""The collections of benchmarks/populations.py: their words are valid, and the colour population has its size."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.populations import COLLECTIONS, GPU, command
from sharpbench.core.spec import parse_spec
from sharpbench.datasets import DATASETS, Dataset
from sharpbench.models import MODELS, Model
from sharpbench.runner.plan import select_cohort
from sharpbench.training.recipe import Recipe

AXES = ("learning_rate", "weight_decay", "batch_size", "augmentation", "optimizer")


def recipes_of(run: tuple[str, ...]) -> tuple[Recipe, ...]:
    networks = [parse_spec(word, {cls.name: cls for cls in MODELS}, kind="model") for word in run[0].split(",")]
    dataset = parse_spec(run[3], {cls.name: cls for cls in DATASETS}, kind="dataset")
    models: list[Model] = [network for network in networks if isinstance(network, Model)]
    assert isinstance(dataset, Dataset)
    return select_cohort(run[1]).recipes(models, dataset)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_the_words_of_every_run_are_valid(name: str) -> None:
    for number, run in enumerate(COLLECTIONS[name]):
        assert recipes_of(run), number


@pytest.mark.parametrize("name", ["cifar10-jpeg", GPU])
def test_the_colour_population_has_100_networks_with_five_in_each_cell(name: str) -> None:
    each = [recipes_of(run) for run in COLLECTIONS[name]]
    assert sum(map(len, each)) >= 100
    varying = {axis for recipes in each for axis in AXES if len({getattr(recipe, axis) for recipe in recipes}) == 2}
    assert varying == set(AXES)
    for recipes in each:
        cells = Counter(tuple(getattr(recipe, axis) for axis in AXES) for recipe in recipes)
        assert set(cells.values()) == {5}
        assert {(recipe.target_loss, recipe.label_noise, recipe.train_size) for recipe in recipes} == {(0.2, 0.0, 5000)}


def test_the_device_is_handed_to_the_run(tmp_path: Path) -> None:
    words = command(COLLECTIONS[GPU][0], tmp_path, workers=1, device="cuda")
    assert words[words.index("--device") + 1] == "cuda"
