"""Ingredient: one field of a recipe from a plain value, as TOML and JSON hold it: words resolved, all of it checked."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from sharpbench.core.fields import fault
from sharpbench.core.registry import offers
from sharpbench.core.spec import Inner, select_one
from sharpbench.datasets import Digits
from sharpbench.datasets.data import Dataset
from sharpbench.errors import InvalidInput, near, short
from sharpbench.models import SmallMlp
from sharpbench.models.model import Model
from sharpbench.optimizers import Optimizer
from sharpbench.recipe import Recipe

LARGEST = 2**63 - 1


def catalogue(plugins: Sequence[Path] = ()) -> Inner:
    """What is offered of the objects that a recipe holds."""
    return {
        Model: offers("models", plugins).classes,
        Dataset: offers("datasets", plugins).classes,
        Optimizer: offers("optimizers", plugins).classes,
    }


def ingredient(name: str, value: object, offered: Inner) -> Any:
    """The value of the recipe's field `name` that `value` stands for.

    Raises InvalidInput, one line with name, value and bound, for what is of another type, out of bounds or unknown.
    """
    hints = typing.get_type_hints(Recipe)
    if name not in hints:
        hint = near(name, hints) or f"it has {', '.join(hints)}"
        raise InvalidInput(f"a recipe has no '{short(name)}'; {hint}")
    annotation = hints[name]
    if annotation in offered:
        if not isinstance(value, str):
            raise InvalidInput(f"{name}={short(str(value))} is no text; write it as on the command line")
        made: Any = select_one(value, offered[annotation], kind=annotation.__name__.lower(), inner=offered)
    else:
        wrong = fault(value, annotation)
        if isinstance(value, int) and abs(value) > LARGEST:
            wrong = "is too large"
        if wrong:
            raise InvalidInput(f"{name}={short(str(value))} {wrong}")
        made = float(value) if annotation is float else value  # type: ignore[arg-type]  # it has no fault
    Recipe(**{"model": SmallMlp(), "dataset": Digits(), name: made})  # its bounds
    return made


def recipe_of(row: Mapping[str, object], offered: Inner) -> Recipe:
    """The recipe whose `row` that is, word by word. Raises InvalidInput for missing and unknown fields too."""
    missing = [item.name for item in fields(Recipe) if item.name not in row]
    values = {name: ingredient(name, value, offered) for name, value in row.items()}
    if missing:
        raise InvalidInput(f"a recipe without {', '.join(missing)}; it is of another version of sharpbench")
    recipe = Recipe(**values)
    for name, value in recipe.row().items():
        if value != row[name]:
            raise InvalidInput(f"{name}={short(str(row[name]))} is written {short(str(value))}")
    return recipe
