"""Comparison: optimisers on the same task, trained to the same loss: who generalises better, and what measures say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from sharpbench.analysis.statistics import Difference, paired_mean
from sharpbench.datasets.dataset import Dataset
from sharpbench.models.model import Model
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.optimizers import Optimizer
from sharpbench.training.recipe import Recipe


@dataclass(frozen=True)
class Contestants(Cohort):
    """Each model by each of `optimizers`, `seeds` networks each, trained until the same training loss is reached."""

    name: ClassVar[str] = "contestants"
    title: ClassVar[str] = "optimisers at matched training loss"
    source: ClassVar[str] = "sizes are our own"
    optimizers: tuple[Optimizer, ...]
    seeds: int
    label_noise: float = 0.0
    train_size: int = 256
    learning_rate: float = 0.02
    batch_size: int = 64
    max_epochs: int = 600
    target_loss: float = 0.01

    def recipes(self, models: Sequence[Model], dataset: Dataset) -> tuple[Recipe, ...]:
        """See Cohort.recipes."""
        return tuple(
            Recipe(
                model=model,
                dataset=dataset,
                label_noise=self.label_noise,
                train_size=self.train_size,
                optimizer=optimizer,
                learning_rate=self.learning_rate,
                batch_size=self.batch_size,
                decay=1e-4,
                max_epochs=self.max_epochs,
                target_loss=self.target_loss,
                seed=seed,
            )
            for model in models
            for optimizer in self.optimizers
            for seed in range(self.seeds)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """By how much networks of one optimiser differ from those of another in a column, paired by seed.

    task: model and label noise. logarithmic: of the natural logarithm of the column, a ratio in disguise.
    """

    task: str
    column: str
    one: str
    other: str
    logarithmic: bool
    difference: Difference


def tasks(table: pd.DataFrame) -> pd.DataFrame:
    """`table` of networks with the column `task`, model and label noise in words, in the order of the table."""
    words = table["model"] + np.where(table["label_noise"] > 0, table["label_noise"].map(" (noise {:g})".format), "")
    return table.assign(task=words)


def contrasts(
    table: pd.DataFrame, columns: Sequence[str], pairs: Sequence[tuple[str, str]], *, logarithmic: bool
) -> list[Contrast]:
    """For each task, column and pair of optimisers the mean difference over seeds at which both networks fitted.

    table: networks with `task`, optimizer, seed and fitted. Of values at or below 0 there is no logarithm: their pairs
    are left out.
    """
    fitted, found = table[table["fitted"]], []
    for task in table["task"].unique():
        rows = fitted[fitted["task"] == task]
        for column in columns:
            values = rows.pivot(index="seed", columns="optimizer", values=column).reindex(
                columns=table["optimizer"].unique()
            )
            if logarithmic:
                values = np.log(values.where(values > 0))
            for one, other in pairs:
                difference = paired_mean(values[one].to_numpy(float), values[other].to_numpy(float))
                found.append(
                    Contrast(
                        task=str(task),
                        column=column,
                        one=one,
                        other=other,
                        logarithmic=logarithmic,
                        difference=difference,
                    )
                )
    return found
