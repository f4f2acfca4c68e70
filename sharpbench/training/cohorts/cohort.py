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
    """A named family of recipes: a frozen value whose fields are written `name[field=value]` on the command line.

    To add a cohort, subclass Cohort as a frozen dataclass in a module of `sharpbench/training/cohorts/`, set the class
    variables, implement `recipes`, and append the class to COHORTS in the `__init__.py` of that package.
    `tests/training/cohorts/test_cohorts.py` tests every class of COHORTS. In a plugin, list the class in the plugin
    module's COHORTS instead. A grid of recipes needs no class: it can be written as a TOML file.

    Attributes:
        name: the name on the command line: lower-case letters, digits and hyphens.
        title: one line for `sharpbench list`.
        source: the publication.

    >>> from collections.abc import Sequence
    >>> from dataclasses import dataclass
    >>> from sharpbench import Cohort, Dataset, Model, Recipe
    >>> from sharpbench.datasets import Digits
    >>> from sharpbench.models import SmallMlp
    >>> @dataclass(frozen=True)
    ... class Seeds(Cohort):
    ...     name = "seeds"
    ...     title = "networks that differ only in their seed"
    ...     source = "an example"
    ...     seeds: int = 3
    ...
    ...     def recipes(self, models: Sequence[Model], dataset: Dataset) -> tuple[Recipe, ...]:
    ...         seeds = range(self.seeds)
    ...         return tuple(Recipe(model=model, dataset=dataset, seed=seed) for model in models for seed in seeds)
    >>> [recipe.seed for recipe in Seeds().recipes([SmallMlp()], Digits())]
    [0, 1, 2]
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def recipes(self, models: Sequence[Model], dataset: Dataset) -> tuple[Recipe, ...]:
        """The recipes of all models, model by model, in a fixed order.

        A cohort may vary the fields of a model. The networks of one element of `models` are still one population.

        Args:
            models: the models, as the user named them.
            dataset: the data set of all recipes.

        Raises:
            InvalidInput: for a model that lacks a field which the cohort varies.
        """

    @property
    def design(self) -> Design:
        """How the configurations were chosen: "designed" for a fixed set, "random" for a draw.

        It determines the intervals: repeating a designed cohort gives other networks at the same configurations,
        repeating a random one gives other configurations.
        """
        return "designed"
