"""A plan that cannot be trained is refused before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sharpbench.datasets import Digits
from sharpbench.datasets.dataset import Data
from sharpbench.errors import InvalidInput
from sharpbench.models import SmallMlp, Timm
from sharpbench.runner.plan import plan
from sharpbench.runner.plan_checks import check_recipes
from sharpbench.training.optimizers import MSam, Sgd
from sharpbench.training.recipe import Recipe


def test_data_without_test_examples_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((300, 12), np.float32), y=np.arange(300) % 3)
    with pytest.raises(InvalidInput, match=r"npz:.*' has no test examples, from which the generalization gap"):
        plan("parameter-norm", "small-mlp", dataset=f"npz:{tmp_path / 'x.npz'}")


def test_numbers_of_tokens_are_refused_for_networks_of_floats(tmp_path: Path) -> None:
    tokens, targets = np.ones((8, 12), np.int64), np.arange(8) % 2
    np.savez(tmp_path / "x.npz", x_train=tokens, y_train=targets, x_test=tokens, y_test=targets)
    with pytest.raises(
        InvalidInput, match=r"model 'small-mlp' takes floats, 'npz:.*' holds numbers of tokens; train a"
    ):
        plan("parameter-norm", "small-mlp", dataset=f"npz:{tmp_path / 'x.npz'}", cohort="label-noise[train_size=8]")


@pytest.fixture(scope="module")
def digits() -> Data:
    return Digits().load(None)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"train_size": 65, "batch_size": 64}, r"on 65 examples by batch_size=64 and 'sgd': a part of 1 is too small"),
        (
            {"train_size": 64, "optimizer": MSam(size=1)},
            r"and 'm-sam\[size=1\]': a part of 1 is too small",
        ),
        (
            {"train_size": 33, "optimizer": MSam(size=32), "batch_size": 33},
            "a part of 1 is too small",
        ),
    ],
)
def test_batch_norm_needs_more_than_one_example_at_once(changes: dict[str, object], line: str, digits: Data) -> None:
    recipe = Recipe(model=Timm("test_resnet", size=16), dataset=Digits(), optimizer=Sgd())
    check_recipes([replace(recipe, train_size=66)], digits)
    with pytest.raises(InvalidInput, match=line):
        check_recipes([replace(recipe, **changes)], digits)  # type: ignore[arg-type]
    without_norms = replace(recipe, model=SmallMlp(), **changes)  # type: ignore[arg-type]
    check_recipes([without_norms], digits)
