"""Record files as `sharpbench run` would leave them: keys that fit, truths that agree, a population or two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpbench.core.record import Record
from sharpbench.files import content_hash
from sharpbench.leaderboard.board import Leaderboard, make_leaderboard
from sharpbench.leaderboard.collection import read_collections

ENVIRONMENT = {"sharpbench": "0.1", "torch": "2.13", "processor": "P 1", "cores": 2, "threads": 1, "cuda": None}

CURVE = {"1": 2.3, "2": 0.9, "4": 0.2, "6": 0.05, "7": 0.04}


def sealed(record: Record, *, version: int = 1) -> Record:
    """`record` with the key that its content has."""
    content = {
        "measure": record.measure,
        "version": version,
        "configuration": record.configuration,
        "recipe": record.recipe,
        "data": record.data["sha256"],
        "examples": None,
        "seed": record.seed,
        "dtype": record.dtype,
        "device": record.device,
    }
    return replace(record, key=content_hash(content))


def population(
    *, measures: Sequence[str] = ("good", "noisy"), model: str = "small-mlp", seeds: int = 5, **changes: Any
) -> list[Record]:
    """3 ratios of label noise x seeds; a network of the last ratio is not fitted, the first is timed and checked."""
    rng = np.random.default_rng(3)
    records = []
    for ratio in (0.0, 0.5, 1.0):
        for seed in range(seeds):
            test = 0.9 - 0.8 * ratio + 0.03 * float(rng.standard_normal())
            fitted = (ratio, seed) != (1.0, 0)
            truth = {"train_accuracy": 1.0, "test_accuracy": test, "gap": 1.0 - test, "fitted": fitted}
            truth |= {"train_loss": 0.01 + 0.001 * seed, "parameter_norm": 3.0 + ratio, "diverged": False}
            for index, measure in enumerate(measures):
                value = 1.0 + (1.0 - test) + (0.02 + index) * float(rng.standard_normal()) ** 2
                first = {
                    "seconds": 0.01 * (1 + index),
                    "gradients": 2.5 + index,
                    "peak_bytes": 12_300_000,
                    "exact": value * (1 + 1e-9 * 10**index),
                    "oracle": "definition",
                    "invariance": {"layer": 1.0, "unit": 3.4 * (1 + index)},
                }
                records.append(
                    sealed(
                        Record(
                            **{
                                "key": "",
                                "measure": measure.partition("[")[0],
                                "label": measure,
                                "configuration": {"of": measure},
                                "recipe": {"model": model, "dataset": "digits", "label_noise": ratio, "seed": seed},
                                "truth": truth,
                                "data": {"sha256": "ab" * 32, "examples": 512, "test_examples": 1000},
                                "seed": 0,
                                "dtype": "float32",
                                "device": "cpu",
                                "status": "ok",
                                "value": value,
                                "environment": ENVIRONMENT,
                                "training_curve": CURVE if index == 0 else {},
                                **(first if ratio == 0 and seed == 0 else {}),
                                **changes,
                            }
                        )
                    )
                )
    return records


def write(path: Path, records: Sequence[Record]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(record.to_json() + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def make() -> Callable[..., list[Record]]:
    return population


@pytest.fixture
def seal() -> Callable[..., Record]:
    return sealed


def write_results(folder: Path) -> Path:
    """Two collections."""
    write(folder / "first.jsonl", population())
    write(folder / "second.jsonl", population(measures=("good", "other[p=1]"), seeds=3))
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of two collections."""
    return write_results(tmp_path / "results")


@pytest.fixture(scope="session")
def shared_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, for tests that only read."""
    return write_results(tmp_path_factory.mktemp("shared") / "results")


@pytest.fixture(scope="session")
def board(shared_results: Path) -> Leaderboard:
    """The leaderboard of them."""
    return make_leaderboard(read_collections(shared_results))
