"""The forecast of a run: what is left to train and to measure, and what is not included."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from sharpbench import Estimate, Measure, NotApplicable, Subject, plan, run
from sharpbench.files import Workspace
from sharpbench.runner import cost
from sharpbench.runner.cell import Cell, Checks
from sharpbench.runner.cost import PredictedCost, predict_cost
from sharpbench.runner.forecast import ForecastStarted, ModelForecast, count_gradients, forecast_cells
from sharpbench.training.recipe import Recipe
from tests.runner.test_run import Norm

COHORT = "label-noise[ratios=2,seeds=1,train_size=32,max_epochs=2,batch_size=16]"


@dataclass(frozen=True)
class Refused(Norm):
    name: ClassVar[str] = "refused"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        raise NotApplicable("not for this network")


@pytest.fixture(autouse=True)
def kept_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting that of all other tests takes longer than a forecast, and no memory is looked at here."""
    monkeypatch.setattr(cost, "gc", SimpleNamespace(collect=lambda: 0))


def forecast(cells: tuple[Cell, ...], cache: Path) -> ModelForecast:
    workspace = Workspace.locate(cache_dir=cache, data_dir=None, device="cpu", threads=1, plugins=())
    steps = list(forecast_cells(cells, workspace, seconds=60))
    (found,) = (step for step in steps if isinstance(step, ModelForecast))
    started = [step.measure for step in steps if isinstance(step, ForecastStarted)]
    assert started == [] or len(started) == len({cell.measure for cell in cells})
    return found


def test_a_forecast_counts_what_is_left(tmp_path: Path) -> None:
    cells = plan([Norm(), Refused()], "small-mlp", cohort=COHORT, device="cpu", timing=0, oracle=0, invariance=0)
    recipe = cells[0].recipe
    assert isinstance(recipe, Recipe)
    assert count_gradients(recipe, 32) == 4
    before = forecast(cells, tmp_path)
    assert (before.model, before.untrained) == ("small-mlp", 2)
    assert before.training > 0
    assert before.measuring > 0
    assert before.unknown == (("refused", "skipped: not for this network"),)
    first, *_ = run(cells, cache_dir=tmp_path, threads=1)
    after = forecast(cells, tmp_path)
    assert (after.untrained, after.training) == (0, 0.0)
    known = replace(cells[0], measured=first)
    assert forecast((known,), tmp_path).measuring == 0.0
    broken = replace(cells[0], population="broken", examples=0)
    assert [label for label, _ in forecast((broken,), tmp_path).unknown] == ["all"]
    assert forecast((replace(known, checks=Checks(rewritten=True)),), tmp_path).measuring > 0.0


def test_a_forecast_includes_the_outcomes_that_networks_lack(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"cohort": COHORT, "device": "cpu", "timing": 0, "oracle": 0, "invariance": 0}
    cells = plan([Norm()], "small-mlp", outcomes="gap,quantised-4,forgetting", **shared)
    assert forecast(cells, tmp_path).judging > 0
    assert forecast(plan([Norm()], "small-mlp", **shared), tmp_path).judging == 0.0
    list(run(cells[:1], cache_dir=tmp_path, threads=1))
    assert forecast(cells[:1], tmp_path).judging == 0.0


@dataclass(frozen=True)
class Fitted(Norm):
    """Has no value at initial weights."""

    name: ClassVar[str] = "fitted"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        first = next(iter(subject.params))
        if subject.initial is None or torch.equal(subject.initial[first], subject.params[first]):
            raise NotApplicable("not for an untrained network")
        return Estimate(1.0)


def test_a_forecast_is_for_the_examples_of_each_network_at_trained_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []

    def predict(measure: Measure, subject: Subject, *, seconds: float, examples: int | None) -> PredictedCost:
        asked.append(examples)
        return predict_cost(measure, subject, seconds=seconds, examples=examples)

    monkeypatch.setattr("sharpbench.runner.forecast.predict_cost", predict)
    cohort = "hyperparameters[axes=train_size,networks=none,train_size=32+96,seeds=1,max_epochs=1,batch_size=16]"
    cells = plan([Fitted()], "small-mlp", cohort=cohort, device="cpu", timing=0, oracle=0, invariance=0)
    assert forecast(cells, tmp_path).unknown == (("fitted", "skipped: not for an untrained network"),)
    list(run(cells, cache_dir=tmp_path, threads=1))
    assert forecast(cells, tmp_path).unknown == ()
    forecast(tuple(replace(cell, examples=48) for cell in cells), tmp_path)
    assert asked == [64, 64, 40]


def test_training_is_forecast_by_the_examples_of_each_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharpbench.runner.forecast.gradient_seconds", lambda *_, device: 1.0)
    cohort = "hyperparameters[axes=train_size,networks=none,train_size=32+96,seeds=1,max_epochs=3,batch_size=16]"
    cells = plan([Norm()], "small-mlp", cohort=cohort, device="cpu", timing=0, oracle=0, invariance=0)
    assert forecast(cells, tmp_path).training == 3 * (2 + 6)
