"""Cells: what a record's words stand for here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpbench.core.measure import Measure
from sharpbench.core.record import Record
from sharpbench.core.registry import offers
from sharpbench.core.spec import Inner, configuration, label
from sharpbench.errors import InvalidInput, near, short
from sharpbench.runner.cell import cell_key
from sharpbench.training.recipe import Recipe, catalogue, recipe_of


class Unknown(Exception):
    """A record that means nothing here; the message says why."""


@dataclass(frozen=True, slots=True)
class Recomputable:
    """A record with its measure and its recipe; examples as in its cell."""

    record: Record
    measure: Measure
    recipe: Recipe
    examples: int | None


@dataclass(frozen=True, slots=True)
class Installed:
    """What words can mean here: measures by name, the package of each, and what recipes are made of."""

    measures: Mapping[str, type[Any]]
    packages: Mapping[str, str]
    ingredients: Inner


def installed(plugins: Sequence[Path] = ()) -> Installed:
    """What is installed, and what the files `plugins` add, which are executed."""
    measures = offers("measures", plugins)
    return Installed(measures.classes, measures.packages, catalogue(plugins))


def cell_of(record: Record, known: Installed) -> Recomputable:
    """The objects that a record names, through the registry.

    Raises Unknown where something is not installed here, is of another version, or does not give the record's key.
    """
    classes = known.measures
    if record.measure not in classes:
        hint = near(record.measure, classes)
        raise Unknown(f"measure '{record.measure}' is not installed here" + (f"; {hint}" if hint else ""))
    try:
        measure: Measure = classes[record.measure](**record.configuration)
        recipe = recipe_of(record.recipe, known.ingredients)
    except (InvalidInput, TypeError, ValueError) as error:
        raise Unknown(f"'{short(record.label)}' cannot be made here: {short(str(error))}") from None
    if label(measure) != record.label or configuration(measure) != record.configuration:
        raise Unknown(f"label '{short(record.label)}' is not that of its configuration, '{short(label(measure))}'")
    for examples in (None, record.data["examples"]):
        key = cell_key(
            measure,
            recipe,
            data_sha256=str(record.data["sha256"]),
            examples=examples,  # type: ignore[arg-type]  # whole, it was checked
            seed=record.seed,
            dtype=record.dtype,
            device=record.device,
        )
        if key == record.key:
            return Recomputable(record, measure, recipe, examples)  # type: ignore[arg-type]
    raise Unknown(f"the key of '{short(record.label)}' is not that of its cell: another version of it, or altered")
