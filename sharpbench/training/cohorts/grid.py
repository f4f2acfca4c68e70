"""The product of a cohort's axes, or a random part of it in which every configuration has all seeds."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any

from sharpbench.core.fields import check_fields
from sharpbench.core.record import Design
from sharpbench.core.spec import format_spec, format_value
from sharpbench.datasets.dataset import Dataset
from sharpbench.errors import InvalidInput, shorten, suggest_names
from sharpbench.models.model import Model
from sharpbench.training.recipe import Recipe

MAX_NETWORKS = 100_000
"""The largest number of configurations of a product, and of networks of a cohort; more is a typing error."""


@dataclass(frozen=True)
class Axis:
    """A field that varies, and its values.

    Attributes:
        name: the field.
        values: its different values.
        of_model: whether it is a field of the model; otherwise it is one of the recipe.
        where: as text, the place in a file, with which error messages begin.
    """

    name: str
    values: tuple[Any, ...]
    of_model: bool = False
    where: object = field(default="", compare=False)

    def __post_init__(self) -> None:
        counts = Counter(self.values)
        twice = next((value for value, count in counts.items() if count > 1), None)
        if not self.values or twice is not None:
            fault = "holds no value" if not self.values else f"holds {shorten(format_value(twice))} twice"
            raise InvalidInput(f"{self.where}axis '{shorten(self.name)}' {fault}; give different values")


@dataclass(frozen=True)
class Grid:
    """All combinations of the values of `axes`, each with every seed, or a random part of them.

    Configurations are drawn by ordering them by a hash of `draw` and their values and taking the first. A larger draw
    contains a smaller one, and the order of axes and values does not matter.

    Attributes:
        axes: the fields that vary.
        seeds: the seeds of every configuration.
        networks: the largest number of networks; whole configurations with all seeds are drawn. None takes all.
        draw: the index of the draw.
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
        """The number of configurations of the full product."""
        return math.prod(len(axis.values) for axis in self.axes)

    @property
    def chosen(self) -> int:
        """The number of configurations that are taken."""
        return self.product if self.networks is None else min(self.product, self.networks // len(self.seeds))

    @property
    def design(self) -> Design:
        """See Cohort.design: "random" if some configurations are left out."""
        return "random" if self.chosen < self.product else "designed"

    def configurations(self) -> list[dict[Axis, Any]]:
        """The chosen configurations, each a dict of values by axis, in the order of the product."""
        full = [dict(zip(self.axes, values, strict=True)) for values in product(*(axis.values for axis in self.axes))]
        order = sorted(range(len(full)), key=lambda index: self._draw_order(full[index]))
        return [full[index] for index in sorted(order[: self.chosen])]

    def recipes(self, models: Sequence[Model], dataset: Dataset, fixed: Mapping[str, Any]) -> Iterator[Recipe]:
        """The recipes of all models, model by model, configuration by configuration, seed by seed.

        `fixed`: the values of the recipe's other fields. Raises InvalidInput as `Cohort.recipes` does.
        """
        configurations = self.configurations()
        for model in models:
            for each in configurations:
                varied = _vary_model(model, {axis: value for axis, value in each.items() if axis.of_model})
                values = {axis.name: value for axis, value in each.items() if not axis.of_model}
                for seed in self.seeds:
                    yield Recipe(model=varied, dataset=dataset, seed=seed, **{**fixed, **values})

    def _draw_order(self, configuration: Mapping[Axis, Any]) -> bytes:
        """The hash by which configurations are ordered before the first are taken."""
        values = {f"{axis.of_model} {axis.name}": format_value(value) for axis, value in configuration.items()}
        return hashlib.sha256(json.dumps([self.draw, values], sort_keys=True).encode()).digest()


def _vary_model(model: Model, changes: Mapping[Axis, Any]) -> Model:
    """`model` with these values of some of its fields."""
    for axis, value in changes.items():
        known = [item.name for item in fields(model)]
        if axis.name not in known:
            hint = suggest_names(axis.name, known) or "leave that axis out, or choose a model that has it"
            raise InvalidInput(
                f"{axis.where}model '{format_spec(model)}' has no '{shorten(axis.name)}' to vary; {hint}"
            )
        try:
            model = replace(model, **{axis.name: value})
            check_fields(model, kind="model")
        except InvalidInput as error:
            raise InvalidInput(f"{axis.where}{error}") from None
    return model
