"""Synthetic records: a cohort in which one measure is good, one follows only label noise, and one is useless."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sharpbench.core.record import Record

ENVIRONMENT = {"sharpbench": "0.1", "torch": "2.13", "processor": "P 1", "cores": 2, "threads": 1, "cuda": None}
RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)


def make(
    measure: str = "good", *, ratio: float = 0.0, seed: int = 0, value: float | None = 1.0, **changes: Any
) -> Record:
    """A record; `changes` are fields, and `model`, `truth` and `recipe` what they hold in addition to the usual."""
    model, truth, recipe = changes.pop("model", "mlp"), changes.pop("truth", {}), changes.pop("recipe", {})
    usual: dict[str, Any] = {
        "key": f"{measure}-{ratio}-{seed}",
        "measure": measure,
        "label": measure,
        "configuration": {},
        "recipe": {"model": model, "dataset": "digits", "label_noise": ratio, "seed": seed, **recipe},
        "truth": {"fitted": True, "gap": ratio, "train_loss": 0.01, "parameter_norm": 3.0, **truth},
        "data": {"sha256": "ab" * 32, "examples": 512, "test_examples": 1000},
        "seed": 0,
        "dtype": "float32",
        "device": "cpu",
        "status": "ok",
        "value": value,
        "environment": ENVIRONMENT,
    }
    return Record(**{**usual, **changes})


def cohort(
    *, seeds: int = 5, model: str = "mlp", measures: Sequence[str] = ("good", "confounded", "useless")
) -> list[Record]:
    """ratios x seeds networks and, for each measure, a record of each; the first network of a model is timed."""
    rng = np.random.default_rng(1)
    records = []
    for ratio in RATIOS:
        for seed in range(seeds):
            gap = 0.05 + 0.8 * ratio + 0.02 * rng.standard_normal()
            truth = {
                "gap": float(gap),
                "train_loss": float(rng.uniform(0.005, 0.01)),
                "parameter_norm": float(5 + ratio + 0.3 * rng.standard_normal()),
            }
            values = {
                "good": float(np.exp(8 * gap + 0.05 * rng.standard_normal())),
                "confounded": float(ratio + 0.05 * rng.standard_normal()),
                "useless": float(rng.standard_normal()),
            }
            first = ratio == 0 and seed == 0
            extra = (
                {
                    "seconds": 0.0123,
                    "gradients": 2.5,
                    "peak_bytes": 12_300_000,
                    "oracle": "definition",
                    "invariance": {"layer": 1 + 1e-12, "unit": 3.4},
                }
                if first
                else {}
            )
            for name in measures:
                value = values[name]
                exact = {"exact": value * (1 + 3e-10)} if first else {}
                records.append(
                    make(name, ratio=ratio, seed=seed, value=value, model=model, truth=truth, **extra, **exact)
                )
    return records
