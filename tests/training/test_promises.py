"""What sharpness-aware optimisers promise: at matched training loss the minima are flatter, in order with rho."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean, stdev

import pytest
import torch
from scipy.stats import t as student
from sharpbench_measures import SamSharpness as SamMeasure
from sharpbench_measures import Trace

from sharpbench import Measure, Subject
from sharpbench.datasets import Digits
from sharpbench.datasets.dataset import Data
from sharpbench.models import SmallMlp
from sharpbench.training.optimizers import Asam, FriendlySam, MSam, Optimizer, Sam, SamPa, Sgd
from sharpbench.training.recipe import Recipe
from sharpbench.training.trainer import StackedTrainer

SEEDS = 16
RECIPE = Recipe(
    model=SmallMlp(),
    dataset=Digits(),
    train_size=512,
    batch_size=64,
    learning_rate=0.02,
    target_loss=0.05,
    max_epochs=600,
    target_accuracy=0.0,
)
"""Training ends with the first epoch whose loss is at most 0.05, so that losses match."""
LADDER: tuple[Optimizer, ...] = (Sgd(), Sam(rho=0.05), Sam(rho=0.1), Sam(rho=0.15))


@pytest.fixture(scope="module")
def digits() -> Data:
    return Digits().load(None)


def values(optimizer: Optimizer, data: Data) -> dict[str, list[float]]:
    """Of each seed, the logarithm of each measure, and the training loss."""
    recipes = [replace(RECIPE, optimizer=optimizer, seed=seed) for seed in range(SEEDS)]
    group = StackedTrainer(recipes, data)
    stage = group.begin()
    while stage.active:
        stage = group.advance(stage)
    found: dict[str, list[float]] = {"loss": [], "sam": [], "trace": []}
    measures: dict[str, Measure] = {"sam": SamMeasure(), "trace": Trace()}
    for index, network in sorted(stage.finished.items()):
        assert network.epoch.fitted
        module = group.load(network.weights).eval()
        subject = Subject.from_module(module, group.inputs, group.targets[index]).to(dtype=torch.float64)
        found["loss"].append(float(subject.loss(subject.params)))
        for name, measure in measures.items():
            found[name].append(math.log(measure(subject, generator=torch.Generator().manual_seed(0)).value))
    return found


def interval(one: list[float], other: list[float]) -> tuple[float, float]:
    """95 % of the difference of means, other - one, of independent networks (Welch)."""
    parts = [stdev(each) ** 2 / len(each) for each in (one, other)]
    error = math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / sum(part**2 / (SEEDS - 1) for part in parts)
    half = float(student.ppf(0.975, freedom)) * error
    return fmean(other) - fmean(one) - half, fmean(other) - fmean(one) + half


@pytest.mark.slow
def test_sharpness_falls_from_sgd_to_sam_and_in_order_with_rho(digits: Data) -> None:
    ladder = [values(optimizer, digits) for optimizer in LADDER]
    losses = [fmean(each["loss"]) for each in ladder]
    assert all(0.03 < loss <= 0.05 for loss in losses)
    for measure in ("sam", "trace"):
        means = [fmean(each[measure]) for each in ladder]
        print(measure, [f"{math.exp(mean):.4g}" for mean in means])
        print([interval(ladder[0][measure], each[measure]) for each in ladder[1:]])
        assert means == sorted(means, reverse=True)
        assert all(interval(ladder[0][measure], each[measure])[1] < 0 for each in ladder[1:])


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [Asam(rho=0.5), MSam(rho=0.05), FriendlySam(rho=0.2), SamPa(rho=0.1)], ids=lambda each: each.name
)
def test_the_kin_of_sam_are_flatter_than_sgd(optimizer: Optimizer, digits: Data) -> None:
    sgd, other = values(Sgd(), digits), values(optimizer, digits)
    for measure in ("sam", "trace"):
        print(optimizer, measure, fmean(sgd[measure]), fmean(other[measure]), interval(sgd[measure], other[measure]))
        assert interval(sgd[measure], other[measure])[1] < 0
