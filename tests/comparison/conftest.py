"""Contestants of known truth, as a plugin file, and a network of a few parameters that they are compared on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpbench.comparison import Comparison, compare
from sharpbench.comparison.benchmark import ComparisonEvent
from sharpbench.core.registry import available
from sharpbench.core.spec import parse_specs
from sharpbench.models.file import parse_file_model

PLUGIN = """
import os, time
from dataclasses import dataclass
from typing import ClassVar
import torch
from sharpbench import Estimate, Measure, NotApplicable
from sharpbench.curvature import exact_diagonal, exact_traces

@dataclass(frozen=True)
class Odd(Measure):
    name, title, source = "odd", "a contestant that misbehaves", "tests"
    quantity: ClassVar = "trace"
    contests: ClassVar = ("", "way=noisy")
    way: str = "wrong"

    def exact(self, subject):
        return None

    def invariances(self):
        return frozenset()

    def __call__(self, subject, *, generator):
        true = sum(exact_traces(subject).values())
        match self.way:
            case "wrong":
                return Estimate(1.05 * true)
            case "noisy":
                return Estimate(true * (1 + 0.03 * float(torch.randn(1, generator=generator))), stderr=None, probes=1)
            case "raises":
                raise RuntimeError("nothing | works <b>")
            case "exits":
                os._exit(3)
            case "hangs":
                time.sleep(1000)
            case "late":
                time.sleep(1000 if subject.batch_size > 4 else 0)
                return Estimate(true)
        raise NotApplicable("not here")

    def diagonal_entries(self, subject, *, generator):
        shift = 0.05 if self.way == "wrong" else float(torch.randn(1, generator=generator))
        return {name: value * (1 + shift) for name, value in exact_diagonal(subject).items()}

@dataclass(frozen=True)
class Other(Odd):
    name: ClassVar = "other"
    quantity: ClassVar = None

MEASURES = (Odd, Other)
"""

Compared = Callable[..., Iterator[ComparisonEvent]]


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / "odd.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A network and data of one's own, as they are typed."""
    folder = tmp_path_factory.mktemp("net")
    text = "from torch import nn\ndef make(): return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))\n"
    (folder / "net.py").write_text(text, encoding="utf-8")
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((12, 6)).astype(np.float32)
    np.savez(folder / "data.npz", inputs=inputs, targets=rng.integers(0, 3, 12))
    return f"{folder / 'net.py'}:make", f"npz:{folder / 'data.npz'}"


@pytest.fixture(scope="session")
def settings(plugin: Path, words: tuple[str, str]) -> Callable[..., Comparison]:
    """A comparison on that network, of measures by their words."""

    def of(measures: str, **options: Any) -> Comparison:
        model = parse_file_model(words[0])
        (dataset,) = parse_specs(words[1], available("datasets").classes, kind="dataset")
        assert model is not None
        usual = {"quantity": "trace", "examples": 12, "weights": "random", "repeats": 3, "batches": (4, 12)}
        chosen = parse_specs(measures, available("measures", [plugin]).classes, kind="measure")
        return Comparison(models=(model,), measures=chosen, dataset=dataset, **{**usual, **options})

    return of


@pytest.fixture(scope="session")
def compared(plugin: Path, settings: Callable[..., Comparison]) -> Compared:
    """The events of such a comparison."""

    def of(measures: str, output: Path, *, plugins: Sequence[Path] = (), **options: Any) -> Iterator[ComparisonEvent]:
        retry = options.pop("retry_failed", False)
        chosen = settings(measures, **options)
        return compare(chosen, output=output, plugins=[plugin, *plugins], retry_failed=retry)

    return of
