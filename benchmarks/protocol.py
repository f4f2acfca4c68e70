"""Seconds of a board: 30 measures on about 300 networks, each number with its interval, 999 permutations per row."""

from __future__ import annotations

from itertools import product

import numpy as np

from sharpbench.analysis.scores import score_records
from sharpbench.core.record import Record

LABEL_NOISE = tuple((ratio / 10,) for ratio in range(11)), ("label_noise",), 28
GRID = (
    tuple(product((0.0, 0.25, 0.5), (16, 32), (0.01, 0.02), (1e-5, 1e-4), ("sgd", "sam"))),
    ("label_noise", "batch_size", "learning_rate", "weight_decay", "optimizer"),
    6,
)


class Protocol:
    """A cohort of one hyperparameter, and a grid of five."""

    params = ("label noise", "grid")
    param_names = ("cohort",)
    version = "1"
    timeout = 300

    def setup(self, cohort: str) -> None:
        configurations, names, seeds = LABEL_NOISE if cohort == "label noise" else GRID
        rng = np.random.default_rng(0)
        self.records = []
        for configuration, seed in product(configurations, range(seeds)):
            gap = 0.05 + 0.5 * configuration[0] + 0.03 * float(rng.standard_normal())
            recipe = {"model": "mlp", "dataset": "digits", "seed": seed, **dict(zip(names, configuration, strict=True))}
            for number in range(30):
                value = gap + 0.02 * (number + 1) * float(rng.standard_normal())
                self.records.append(_record(f"measure{number}", recipe, gap, value))

    def time_score(self, cohort: str) -> None:
        score_records(self.records)


def _record(name: str, recipe: dict[str, object], gap: float, value: float) -> Record:
    return Record(
        key=f"{name} {recipe}",
        measure=name,
        label=name,
        configuration={},
        recipe=recipe,  # type: ignore[arg-type]  # scalars all
        truth={"fitted": True, "gap": gap, "train_loss": 0.01, "parameter_norm": 3.0},
        data={"sha256": "0", "examples": 1024, "test_examples": 10_000},
        seed=0,
        dtype="float32",
        device="cpu",
        status="ok",
        value=value,
    )
