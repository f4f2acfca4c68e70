"""Small replays: synthetic records of cohorts, and recipes that train in a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpbench.core.record import Record
from sharpbench.datasets import Digits
from sharpbench.files import Workspace
from sharpbench.models.paper import SmallCnn, SmallMlp
from sharpbench.training.recipe import Recipe

LAYERS = ("layer0", "layer1", "layer2")


def make(label: str, value: float | None, *, recipe: dict[str, Any], truth: dict[str, Any], **changes: Any) -> Record:
    """A record of one measure on one network."""
    usual: dict[str, Any] = {
        "key": f"{label} {sorted(recipe.items())}",
        "measure": label.partition("[")[0],
        "label": label,
        "configuration": {},
        "recipe": {"dataset": "digits", "label_noise": 0.0, "optimizer": "sgd", "seed": 0, **recipe},
        "truth": truth,
        "data": {"sha256": "ab" * 32, "examples": 64},
        "seed": 0,
        "dtype": "float32",
        "device": "cpu",
        "status": "failed" if value is None else "ok",
        "reason": "no value" if value is None else None,
        "value": value,
    }
    return Record(**{**usual, **changes})


def cohort(
    *,
    labels: Sequence[str],
    optimizers: Sequence[str] = ("sgd",),
    noises: Sequence[float] = (0.0, 0.2, 0.4),
    seeds: int = 5,
    models: Sequence[str] = ("mlp", "lenet"),
) -> list[Record]:
    """Networks whose gap grows with noise; every measure is around exp(gap); traces have parts by layer."""
    rng = np.random.default_rng(0)
    records = []
    for model in models:
        for noise in noises:
            for optimizer in optimizers:
                for seed in range(seeds):
                    gap = 0.05 + noise + 0.02 * float(rng.standard_normal()) - 0.03 * optimizers.index(optimizer)
                    recipe = {"model": model, "label_noise": noise, "optimizer": optimizer, "seed": seed}
                    truth = {
                        "fitted": True,
                        "gap": gap,
                        "train_loss": 0.009 - 0.001 * float(rng.random()),
                        "train_accuracy": 1.0,
                        "test_accuracy": 1.0 - gap,
                        "parameter_norm": 5.0 + float(rng.random()),
                        "epochs": 20,
                    }
                    for label in labels:
                        value = float(np.exp(gap + 0.01 * rng.standard_normal()))
                        blocks = {f"{layer}.{kind}": value * (0.1 + float(rng.random()))
                                  for layer in LAYERS for kind in ("weight", "bias")}  # fmt: skip
                        parts = blocks if label == "trace" else {}
                        value = sum(parts.values()) if parts else value
                        records.append(make(label, value, recipe=recipe, truth=truth, parts=parts))
    return records


@pytest.fixture
def records() -> Callable[..., list[Record]]:
    return cohort


@pytest.fixture
def record() -> Callable[..., Record]:
    return make


@pytest.fixture
def recipes() -> tuple[Recipe, ...]:
    """A perceptron and a convolutional network, trained for an epoch on 32 digits."""
    return tuple(
        Recipe(model=model, dataset=Digits(), train_size=32, batch_size=16, max_epochs=1)
        for model in (SmallMlp(), SmallCnn())
    )


@pytest.fixture
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    cache: Path = tmp_path_factory.mktemp("cache")
    return Workspace(cache_dir=cache)
