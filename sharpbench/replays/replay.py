"""Replay: the contract of a paper's experiments done again, and Experiment, what is trained and measured for one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from sharpbench.core.record import Record
from sharpbench.datasets.dataset import Dataset
from sharpbench.models.model import Model
from sharpbench.replays.study import Study
from sharpbench.report.page import Page
from sharpbench.runner.cell import Cell
from sharpbench.runner.plan import plan
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Networks and the measures on them, which go through the machinery of runs; and studies beside that.

    title: the size in words. measures: as on the command line. cohorts: each with the models that it trains.
    shape, classes, train_size: of the data, so that what it will take is known without its files.
    """

    title: str
    measures: str
    dataset: Dataset
    cohorts: tuple[tuple[Cohort, tuple[Model, ...]], ...]
    studies: tuple[Study, ...] = ()
    examples: int | None = None
    shape: tuple[int, ...] = (1, 28, 28)
    classes: int = 10
    train_size: int = 1437

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """Of all networks of the cohorts."""
        return tuple(recipe for cohort, models in self.cohorts for recipe in cohort.recipes(models, self.dataset))

    def cells(self, *, device: str, data_dir: Path | str | None) -> tuple[Cell, ...]:
        """What a run of it does: values alone, neither timed nor checked. Loads the data."""
        planned = [
            plan(
                self.measures,
                models,
                dataset=self.dataset,
                cohort=cohort,
                device=device,
                examples=self.examples,
                timing=0,
                oracle=0,
                invariance=0,
                data_dir=data_dir,
            )
            for cohort, models in self.cohorts
        ]
        return tuple(cell for cells in planned for cell in cells)


@dataclass(frozen=True)
class Replay(ABC):
    """A paper's experiments by name; `scales` names its sizes, the default first."""

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    scales: ClassVar[tuple[str, ...]]

    @abstractmethod
    def experiment(self, scale: str) -> Experiment | None:
        """What is trained and measured at that scale; None where what was published is all that is looked at."""

    @abstractmethod
    def page(self, scale: str, records: Sequence[Record], findings: Mapping[str, pd.DataFrame]) -> Page:
        """What came out: a pure function of the experiment's records and of its studies' findings by name."""
