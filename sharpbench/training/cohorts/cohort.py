"""Cohort: the contract of a named family of recipes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sharpbench.core.record import Design
from sharpbench.datasets.dataset import Dataset
from sharpbench.models.model import Model
from sharpbench.training.recipe import Recipe


@dataclass(frozen=True)
class Cohort(ABC):
    """A named family of recipes: a frozen value whose fields are its axes, `name[field=value]`."""

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def recipes(self, models: Sequence[Model], dataset: Dataset) -> tuple[Recipe, ...]:
        """The recipes of every model, model by model, in a fixed order.

        A cohort may vary fields of the models; what comes of one of `models` is one population all the same.
        """

    @property
    def design(self) -> Design:
        """How the configurations were chosen: all of a grid, or at random, which a cohort that draws them says.

        Training the cohort again gives other networks at the same configurations; or other configurations, each
        with its networks.
        """
        return "designed"
