"""Estimated hours of an experiment on this machine, from a few of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch

from sharpbench.core.spec import format_spec
from sharpbench.core.subject import Subject
from sharpbench.models.model import Model
from sharpbench.replays.replay import Experiment
from sharpbench.runner.cost import predict_cost
from sharpbench.runner.forecast import count_gradients, gradient_seconds
from sharpbench.runner.plan import select_measures

PILOT_EXAMPLES = 256
"""The number of random examples on which measures are timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostEstimate:
    """The cost of the networks of one model.

    Args:
        model: the model's spec.
        networks: the number of networks.
        epochs: the largest number of epochs.
        training_hours: hours of training if every network trains for all its epochs, one after the other.
        measuring_hours: hours of all measures on all networks.
    """

    model: str
    networks: int
    epochs: int
    training_hours: float
    measuring_hours: float


def estimate_cost(experiment: Experiment, *, device: str) -> Iterator[CostEstimate]:
    """The cost of each model's networks, from one timed training step and measures timed on random examples.

    Args:
        experiment: the experiment.
        device: "cpu" or "cuda".
    """
    for model in dict.fromkeys(recipe.model for recipe in experiment.recipes):
        recipes = [recipe for recipe in experiment.recipes if recipe.model == model]
        batches = {recipe.batch_size for recipe in recipes}
        step = {batch: _step_seconds(model, batch, experiment, device) for batch in batches}
        sizes = {recipe: recipe.train_size or experiment.train_size for recipe in recipes}
        steps = sum(count_gradients(recipe, size) * step[recipe.batch_size] for recipe, size in sizes.items())
        measured = len(recipes) * _measuring_seconds(model, experiment, device)
        yield CostEstimate(
            model=format_spec(model),
            networks=len(recipes),
            epochs=max(recipe.max_epochs for recipe in recipes),
            training_hours=steps / 3600,
            measuring_hours=measured / 3600,
        )


def cost_table(rows: list[CostEstimate]) -> pd.DataFrame:
    """The estimates as texts, with their sum in the last row."""
    shown = [
        {
            "network": each.model,
            "networks": f"{each.networks:,}",
            "epochs, at most": f"{each.epochs:,}",
            "hours of training, at most": f"{each.training_hours:,.2f}",
            "hours of measuring": f"{each.measuring_hours:,.2f}",
        }
        for each in rows
    ]
    networks, training = sum(each.networks for each in rows), sum(each.training_hours for each in rows)
    measuring = sum(each.measuring_hours for each in rows)
    last = ["together", f"{networks:,}", "", f"{training:,.2f}", f"{measuring:,.2f}"]
    return pd.DataFrame([*shown, dict(zip(shown[0], last, strict=True))])


def _step_seconds(model: Model, batch: int, experiment: Experiment, device: str) -> float:
    module = model.build(experiment.shape, experiment.classes)
    inputs, targets = torch.randn(batch, *experiment.shape), torch.randint(0, experiment.classes, (batch,))
    return gradient_seconds(module, inputs, targets, device=device)


def _measuring_seconds(model: Model, experiment: Experiment, device: str) -> float:
    """Seconds of all measures on one network, scaled up from PILOT_EXAMPLES random examples; failures count 0."""
    module = model.build(experiment.shape, experiment.classes)
    inputs, targets = (
        torch.randn(PILOT_EXAMPLES, *experiment.shape),
        torch.randint(0, experiment.classes, (PILOT_EXAMPLES,)),
    )
    subject = Subject.from_module(module, inputs, targets).to(device=device)
    examples = experiment.examples or max(recipe.train_size or experiment.train_size for recipe in experiment.recipes)
    found = [predict_cost(measure, subject).seconds or 0.0 for measure in select_measures(experiment.measures)]
    return sum(found) * examples / PILOT_EXAMPLES
