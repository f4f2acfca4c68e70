"""The contract of a replay, and Experiment: the networks, measures and studies of one scale."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from sharpbench.core.record import Record
from sharpbench.datasets.dataset import Dataset
from sharpbench.files import Workspace
from sharpbench.models.model import Model
from sharpbench.replays.study import Study
from sharpbench.report.page import Page
from sharpbench.runner.cell import Cell
from sharpbench.runner.plan import plan
from sharpbench.runner.plan_options import PlanOptions
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Networks and measures, which are run like any other run, and studies that are run in addition.

    Args:
        title: the size in words.
        measures: specs of the measures, as on the command line.
        dataset: the data that all networks are trained on.
        cohorts: the cohorts, each with the models that it trains.
        studies: measurements that do not fit into records.
        examples: the number of examples that measures use; None for all training examples.
        shape: the shape of one example. With `classes` and `train_size` it allows a cost estimate without the files of
            the data set.
        classes: the number of classes.
        train_size: the number of training examples of the data set.
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
        """The recipes of all networks of the cohorts."""
        return tuple(recipe for cohort, models in self.cohorts for recipe in cohort.recipes(models, self.dataset))

    def cells(self, workspace: Workspace) -> tuple[Cell, ...]:
        """The cells of its run, which compute only values: nothing is timed, checked or rewritten. Loads the data."""
        options = PlanOptions(
            device=workspace.device,
            examples=self.examples,
            timing=0,
            oracle=0,
            invariance=0,
            data_dir=workspace.data_dir,
        )
        planned = [
            plan(self.measures, models, options, dataset=self.dataset, cohort=cohort) for cohort, models in self.cohorts
        ]
        return tuple(cell for cells in planned for cell in cells)


@dataclass(frozen=True)
class Replay(ABC):
    """The experiments of one paper, repeated.

    A subclass is a frozen dataclass with these class variables, and it is listed in `catalog.REPLAYS`.

    Args:
        name: the name on the command line.
        title: the title of its page.
        source: the paper.
        scales: the names of its sizes, the default first.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    scales: ClassVar[tuple[str, ...]]

    @abstractmethod
    def experiment(self, scale: str) -> Experiment | None:
        """The networks, measures and studies at that scale; None if the scale only uses published data."""

    @abstractmethod
    def page(self, scale: str, records: Sequence[Record], findings: Mapping[str, pd.DataFrame]) -> Page:
        """The page with the results.

        Args:
            scale: the scale.
            records: the records of the experiment's run; empty without an experiment.
            findings: the rows of each study, by its name.
        """
