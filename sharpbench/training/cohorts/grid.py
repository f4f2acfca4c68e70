"""Grid: the product of a cohort's axes, or a random part of it in which every configuration keeps all its seeds."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any

from sharpbench.core.fields import check_fields
from sharpbench.core.record import Design
from sharpbench.core.spec import format_spec, format_value
from sharpbench.datasets.dataset import Dataset
from sharpbench.errors import InvalidInput, near, short
from sharpbench.models.model import Model
from sharpbench.training.recipe import Recipe

MAX_NETWORKS = 100_000
"""Configurations of a product, and networks of a cohort: more is a slip of the keyboard."""


@dataclass(frozen=True)
class Axis:
    """A field that varies, of the recipe or `of_model`, and its values; where: what errors put before them."""

    name: str
    values: tuple[Any, ...]
    of_model: bool = False
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        twice = next((each for index, each in enumerate(self.values) if each in self.values[:index]), None)
        if not self.values or twice is not None:
            fault = "holds no value" if not self.values else f"holds {short(format_value(twice))} twice"
            raise InvalidInput(f"{self.where}axis '{short(self.name)}' {fault}; give different values")


@dataclass(frozen=True)
class Grid:
    """All combinations of the values of `axes`, each with every seed, or a random part of them.

    networks: draw so many networks at most, whole configurations with all their seeds; None takes all.
    draw: of which draw. Configurations are ordered by a hash of `draw` and their values, and the first are
    taken: a larger draw contains a smaller one, and neither the order of axes nor that of values changes it.
    """

    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    networks: int | None = None
    draw: int = 0

    def __post_init__(self) -> None:
        if self.product > MAX_NETWORKS or self.product * len(self.seeds) > MAX_NETWORKS:
            raise InvalidInput(
                f"the axes have {self.product:,} combinations, {self.product * len(self.seeds):,} networks, where "
                f"{MAX_NETWORKS:,} are the most; choose fewer axes or values"
            )
        if self.networks is not None and self.networks < len(self.seeds):
            raise InvalidInput(
                f"networks={self.networks} must be at least the {len(self.seeds)} seeds of one configuration"
            )

    @property
    def product(self) -> int:
        """How many configurations there are in all."""
        return math.prod(len(axis.values) for axis in self.axes)

    @property
    def chosen(self) -> int:
        """How many configurations are taken."""
        return self.product if self.networks is None else min(self.product, self.networks // len(self.seeds))

    @property
    def design(self) -> Design:
        """Random where some configurations are left out."""
        return "random" if self.chosen < self.product else "designed"

    def configurations(self) -> list[dict[Axis, Any]]:
        """Axis -> value, in the order of the product; of a random part, too."""
        whole = [dict(zip(self.axes, values, strict=True)) for values in product(*(axis.values for axis in self.axes))]
        order = sorted(range(len(whole)), key=lambda index: self._place(whole[index]))
        return [whole[index] for index in sorted(order[: self.chosen])]

    def recipes(self, models: Sequence[Model], dataset: Dataset, fixed: Mapping[str, Any]) -> Iterator[Recipe]:
        """The recipes of every model, model by model, configuration by configuration, seed by seed."""
        configurations = self.configurations()
        for model in models:
            for each in configurations:
                varied = _vary_model(model, {axis: value for axis, value in each.items() if axis.of_model})
                values = {axis.name: value for axis, value in each.items() if not axis.of_model}
                for seed in self.seeds:
                    yield Recipe(model=varied, dataset=dataset, seed=seed, **{**fixed, **values})

    def _place(self, configuration: Mapping[Axis, Any]) -> bytes:
        values = {f"{axis.of_model} {axis.name}": format_value(value) for axis, value in configuration.items()}
        return hashlib.sha256(json.dumps([self.draw, values], sort_keys=True).encode()).digest()


def _vary_model(model: Model, changes: Mapping[Axis, Any]) -> Model:
    """`model` with other values of some of its fields."""
    for axis, value in changes.items():
        known = [item.name for item in fields(model)]
        if axis.name not in known:
            hint = near(axis.name, known) or "leave that axis out, or choose a model that has it"
            raise InvalidInput(f"{axis.where}model '{format_spec(model)}' has no '{short(axis.name)}' to vary; {hint}")
        try:
            model = replace(model, **{axis.name: value})
            check_fields(model, kind="model")
        except InvalidInput as error:
            raise InvalidInput(f"{axis.where}{error}") from None
    return model
