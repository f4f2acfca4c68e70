"""The cohort of networks for signals: its axes, its size, and the models that it takes."""

from __future__ import annotations

from collections import Counter

import pytest

from sharpbench.datasets import Mnist1d
from sharpbench.errors import InvalidInput
from sharpbench.models import SIGNAL_MODELS, Cnn1d, LeNet, Mlp1d
from sharpbench.runner.plan import select_cohort
from sharpbench.training.cohorts import Mnist1dThousand
from sharpbench.training.optimizers import AdamW, Asam, FriendlySam, Sam, Sgd

MODELS = tuple(cls() for cls in SIGNAL_MODELS)


def test_it_has_more_than_1280_networks_without_label_noise() -> None:
    recipes = Mnist1dThousand().recipes((Mlp1d(), Cnn1d()), Mnist1d())
    assert Counter(recipe.model.name for recipe in recipes) == {"mlp-1d": 750, "cnn-1d": 750}
    assert {recipe.label_noise for recipe in recipes} == {0.0}
    assert {recipe.target_loss for recipe in recipes} == {0.05}
    assert Mnist1dThousand().design == "random"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_axis_varies_for_every_model(model: Mlp1d) -> None:
    recipes = Mnist1dThousand().recipes((model,), Mnist1d())
    assert {recipe.model for recipe in recipes} == {
        type(model)(width=width, depth=depth)
        for width in (model.width, model.width // 2)
        for depth in (model.depth, model.depth - 1)
    }
    assert {type(recipe.optimizer) for recipe in recipes} == {Sgd, Sam, Asam, FriendlySam, AdamW}
    for name in ("learning_rate", "batch_size", "weight_decay", "train_size", "augmentation"):
        assert len({getattr(recipe, name) for recipe in recipes}) == 2


def test_the_product_is_a_designed_cohort() -> None:
    whole = select_cohort("mnist1d-thousand[networks=none,optimizer=sgd,seeds=2]")
    assert whole.design == "designed"
    assert len(whole.recipes((Mlp1d(),), Mnist1d())) == 2**7 * 2


def test_models_without_sizes_and_sizes_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(InvalidInput, match="model 'lenet' has no 'width' to vary; choose mlp-1d"):
        Mnist1dThousand().recipes((LeNet(),), Mnist1d())
    with pytest.raises(InvalidInput, match=r"'mlp-1d\[depth=1\]': .* at least 2"):
        Mnist1dThousand().recipes((Mlp1d(depth=1),), Mnist1d())
    with pytest.raises(InvalidInput, match="seeds=0 must be from 1 to 100,000"):
        Mnist1dThousand(seeds=0)
