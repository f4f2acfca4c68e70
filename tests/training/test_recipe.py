"""Recipes and cohorts: what tells two networks apart, and grids in a fixed order."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import Any

import pytest

from sharpbench.datasets import Digits, Mnist
from sharpbench.errors import InvalidInput
from sharpbench.files import content_hash
from sharpbench.models import LeNet, Mlp, SmallCnn, SmallMlp
from sharpbench.training.cohorts import LabelNoise, LabelNoisePaper
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.optimizers import Sam, Sgd
from sharpbench.training.recipe import Recipe, available_parts, distinct_titles, parse_recipe

RECIPE = Recipe(model=SmallMlp(), dataset=Digits())
OTHERWISE: dict[str, Any] = {
    "model": SmallMlp(bias=False),
    "dataset": Mnist(),
    "label_noise": 0.5,
    "train_size": 64,
    "optimizer": Sgd(momentum=0.5),
    "learning_rate": 0.1,
    "weight_decay": 0.0,
    "decay": 1e-3,
    "batch_size": 32,
    "max_epochs": 7,
    "target_loss": 0.5,
    "target_accuracy": 0.5,
    "augmentation": 0.5,
    "seed": 1,
    "inputs": "timm 3x160x160",
    "code": "timm 1.0",
}


def test_every_field_is_part_of_the_key() -> None:
    assert set(OTHERWISE) == {item.name for item in dataclasses.fields(Recipe)}
    keys = {RECIPE.key} | {dataclasses.replace(RECIPE, **{name: value}).key for name, value in OTHERWISE.items()}
    assert len(keys) == 1 + len(OTHERWISE)


def test_a_key_is_the_same_in_every_process() -> None:
    """The hash of canonical JSON, and none of Python's own, which differ from process to process."""
    row = {**{item.name: getattr(RECIPE, item.name) for item in dataclasses.fields(Recipe)}}
    row |= {"model": "small-mlp", "dataset": "digits", "optimizer": "sgd"}
    del row["augmentation"], row["inputs"], row["code"]  # none: left out, so keys of earlier versions hold
    assert RECIPE.row() == row
    assert RECIPE.key == hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()
    assert json.loads(json.dumps(RECIPE.row())) == RECIPE.row()


def test_equal_recipes_have_equal_keys() -> None:
    """0 == 0.0 for Python, but not for JSON: a cohort that says label_noise=0 must find the networks of 0.0."""
    whole = dataclasses.replace(RECIPE, label_noise=0, learning_rate=1, weight_decay=0)
    point = dataclasses.replace(RECIPE, label_noise=0.0, learning_rate=1.0, weight_decay=0.0)
    assert whole == point
    assert whole.key == point.key


def test_the_order_of_keys_does_not_enter_a_content_hash_and_their_values_do() -> None:
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash({"a": 1, "b": 2}) != content_hash({"a": 2, "b": 1})
    assert content_hash([1, 2]) != content_hash([2, 1])
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_hash({"a": math.nan})


@pytest.mark.parametrize(
    "field", ["label_noise", "learning_rate", "weight_decay", "decay", "target_loss", "target_accuracy", "augmentation"]
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_out_of_bounds(field: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=f"{field}={value} must be"):
        dataclasses.replace(RECIPE, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_epochs", 10**400), ("batch_size", 2**63), ("train_size", 10**20), ("seed", 2**63), ("seed", -(2**63))],
)
def test_whole_numbers_that_files_cannot_hold_are_out_of_bounds(field: str, value: int) -> None:
    """Otherwise a network could be trained and exported, and neither imported nor submitted."""
    bound = "at least -" if value < 0 else "at most "
    with pytest.raises(InvalidInput, match=rf"^{field}=.* must be {bound}9223372036854775807$"):
        dataclasses.replace(RECIPE, **{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label_noise", 0.0),
        ("label_noise", 1.0),
        ("target_accuracy", 0.0),
        ("target_accuracy", 1.0),
        ("weight_decay", 0.0),
        ("decay", 0.0),
        ("batch_size", 1),
        ("max_epochs", 1),
        ("train_size", 1),
        ("train_size", None),
    ],
)
def test_bounds_belong_to_what_they_bound(field: str, value: float | None) -> None:
    assert getattr(dataclasses.replace(RECIPE, **{field: value}), field) == value


def test_a_title_names_the_network() -> None:
    noisy = dataclasses.replace(RECIPE, label_noise=0.25, seed=3, model=Mlp(bias=False))
    assert noisy.title == "mlp[bias=false] on digits, label noise 0.25, seed 3"


def test_titles_say_what_tells_networks_apart() -> None:
    fast = dataclasses.replace(RECIPE, learning_rate=0.5, batch_size=8, optimizer=Sam(rho=0.1))
    plain, other = distinct_titles([RECIPE, fast])
    assert other == f"{RECIPE.title}, optimizer sam[rho=0.1], learning rate 0.5, batch size 8"
    assert plain == f"{RECIPE.title}, optimizer sgd, learning rate {RECIPE.learning_rate}, batch size 64"
    assert distinct_titles([RECIPE, dataclasses.replace(RECIPE, seed=1)])[0] == RECIPE.title
    assert distinct_titles([]) == []


@pytest.mark.parametrize("cohort", [LabelNoise, LabelNoisePaper], ids=lambda cohort: cohort.name)
def test_cohorts_go_model_by_model_in_a_fixed_order(cohort: type[Cohort]) -> None:
    models = (SmallMlp(), LeNet())
    recipes = cohort().recipes(models, Digits())
    assert recipes == cohort().recipes(models, Digits())
    assert [recipe.model for recipe in recipes] == [model for model in models for _ in range(len(recipes) // 2)]
    half = [(recipe.label_noise, recipe.seed) for recipe in recipes[: len(recipes) // 2]]
    assert half == sorted(half)
    assert len({recipe.key for recipe in recipes}) == len(recipes)
    assert {recipe.dataset for recipe in recipes} == {Digits()}
    assert cohort().recipes((), Digits()) == ()


@pytest.mark.parametrize("ratios", [2, 3, 4, 11])
def test_ratios_are_equally_spaced_from_0_to_1(ratios: int) -> None:
    recipes = LabelNoise(ratios=ratios, seeds=1).recipes((SmallMlp(),), Digits())
    noise = [recipe.label_noise for recipe in recipes]
    assert noise == pytest.approx([step / (ratios - 1) for step in range(ratios)], abs=1e-6)
    assert (noise[0], noise[-1]) == (0.0, 1.0)


def test_every_axis_of_a_cohort_reaches_its_recipes() -> None:
    axes = {"train_size": 17, "learning_rate": 0.3, "batch_size": 5, "decay": 0.01, "max_epochs": 9, "target_loss": 0.2}
    for recipe in LabelNoise(**axes).recipes((SmallMlp(),), Digits()):  # type: ignore[arg-type]
        assert {name: getattr(recipe, name) for name in axes} == axes
        assert (recipe.weight_decay, recipe.optimizer) == (1e-5, Sgd(momentum=0.9))


def test_the_papers_cohort_differs_by_kind_of_network() -> None:
    """Section 5.2 and its code: perceptrons 0.1 for 3,000 epochs, convolutional networks 0.01 for 1,000."""
    said = {
        recipe.model.name: (recipe.learning_rate, recipe.max_epochs, recipe.batch_size, recipe.decay, recipe.train_size)
        for recipe in LabelNoisePaper(ratios=2, seeds=1).recipes((Mlp(), SmallMlp(), LeNet(), SmallCnn()), Digits())
    }
    perceptron, convolutional = (0.1, 3000, 1024, 1e-4, None), (0.01, 1000, 1024, 1e-4, None)
    assert said == {
        "mlp": perceptron,
        "small-mlp": perceptron,
        "lenet": convolutional,
        "small-cnn": convolutional,
    }


def test_random_numbers_do_not_depend_on_the_version_of_code() -> None:
    """An edited plugin starts from the same weights and draws the same batches, but has another key."""
    recorded = dataclasses.replace(RECIPE, code="source 12ab")
    assert recorded.seed_key == RECIPE.seed_key == RECIPE.key != recorded.key
    assert dataclasses.replace(RECIPE, inputs="timm 3x160x160").seed_key != RECIPE.seed_key


def test_recorded_fields_are_parsed_and_left_out_where_they_are_missing() -> None:
    recorded = dataclasses.replace(RECIPE, code="source 12ab", inputs="timm 3x160x160")
    assert parse_recipe(recorded.row(), available_parts()) == recorded
    assert parse_recipe(RECIPE.row(), available_parts()) == RECIPE


def test_recipes_of_ours_are_identified_as_they_are() -> None:
    assert RECIPE.identify(images=True) == RECIPE
