"""Recipe: the identity of one trained network; Cohort: the contract of a named family of recipes."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sharpbench.core.fields import Scalar, field_error, is_finite
from sharpbench.core.registry import available
from sharpbench.core.spec import Inner, format_spec, parse_spec, to_config
from sharpbench.datasets import Digits
from sharpbench.datasets.dataset import Dataset
from sharpbench.errors import InvalidInput, near, short
from sharpbench.files import content_hash
from sharpbench.models import SmallMlp
from sharpbench.models.model import Model
from sharpbench.training.optimizers import Optimizer, Sgd


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one network is trained; its text is its name and its key.

    label_noise: the share of the training examples whose labels are permuted among themselves.
    train_size: how many training examples, a fixed subset; None takes all.
    learning_rate at step t is learning_rate / (decay * t + 1). Training ends when the mean training loss over
    an epoch is at most target_loss, and a full pass confirms it and finds a share target_accuracy of the examples
    right; or after max_epochs, and then the network counts as not fitted.
    seed: which of the networks of this configuration. Initialisation, label noise and the order of examples
    are drawn from the hash of the whole recipe, so that no two networks share any of them.
    """

    model: Model
    dataset: Dataset
    label_noise: float = 0.0
    train_size: int | None = None
    optimizer: Optimizer = Sgd()  # a frozen value
    learning_rate: float = 0.05
    weight_decay: float = 1e-5
    decay: float = 1e-4
    batch_size: int = 64
    max_epochs: int = 300
    target_loss: float = 0.01
    target_accuracy: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _require("label_noise", self.label_noise, 0.0 <= self.label_noise <= 1.0, "from 0 to 1")
        _require("learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        _require("weight_decay", self.weight_decay, self.weight_decay >= 0, "at least 0")
        _require("decay", self.decay, self.decay >= 0, "at least 0")
        _require("batch_size", self.batch_size, self.batch_size >= 1, "at least 1")
        _require("max_epochs", self.max_epochs, self.max_epochs >= 1, "at least 1")
        _require("target_loss", self.target_loss, self.target_loss > 0, "above 0")
        _require("target_accuracy", self.target_accuracy, 0 <= self.target_accuracy <= 1, "from 0 to 1")
        _require("train_size", self.train_size, self.train_size is None or self.train_size >= 1, "at least 1")

    def row(self) -> dict[str, Scalar]:
        """All fields as JSON scalars; model, data set and optimiser by their canonical words."""
        words = {"model": self.model, "dataset": self.dataset, "optimizer": self.optimizer}
        return {**to_config(self), **{name: format_spec(chosen) for name, chosen in words.items()}}

    @property
    def key(self) -> str:
        """The hash of `row`."""
        return content_hash(self.row())

    @property
    def title(self) -> str:
        """A few words for progress lines."""
        where = f"{format_spec(self.model)} on {format_spec(self.dataset)}"
        return f"{where}, label noise {self.label_noise:g}, seed {self.seed}"


def distinct_titles(recipes: Sequence[Recipe]) -> list[str]:
    """The title of each recipe, with the other fields in which some of them differ."""
    rows = [recipe.row() for recipe in recipes]
    told = ("model", "dataset", "label_noise", "seed")
    varying = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in told]
    varying = [name for name in varying if len({row[name] for row in rows}) > 1]
    return [
        ", ".join([recipe.title, *(f"{name.replace('_', ' ')} {row[name]}" for name in varying)])
        for recipe, row in zip(recipes, rows, strict=True)
    ]


def network_key(recipe: Recipe, data_sha256: str, device: str) -> str:
    """The hash by which the trained network of a recipe is known: of the recipe, the data's content, the device."""
    return content_hash({"recipe": recipe.key, "data": data_sha256, "device": device})


def _require(name: str, value: float | None, holds: bool, bound: str) -> None:
    if not holds or (value is not None and not is_finite(value)):
        finite = "" if value is None or is_finite(value) else ", and finite"
        raise InvalidInput(f"{name}={short(str(value))} must be {bound}{finite}")


# Ingredient: one field of a recipe from a plain value, as TOML and JSON hold it: words resolved, all of it checked.

MAX_INTEGER = 2**63 - 1


def available_parts(plugins: Sequence[Path] = ()) -> Inner:
    """What is offered of the objects that a recipe holds."""
    return {
        Model: available("models", plugins).classes,
        Dataset: available("datasets", plugins).classes,
        Optimizer: available("optimizers", plugins).classes,
    }


def parse_recipe_field(name: str, value: object, offered: Inner) -> Any:
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
            raise InvalidInput(f"{name}={short(str(value))} is not text; write it as on the command line")
        made: Any = parse_spec(value, offered[annotation], kind=annotation.__name__.lower(), inner=offered)
    else:
        wrong = field_error(value, annotation)
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            wrong = "is too large"
        if wrong:
            raise InvalidInput(f"{name}={short(str(value))} {wrong}")
        made = float(value) if annotation is float else value  # type: ignore[arg-type]  # it has no fault
    Recipe(**{"model": SmallMlp(), "dataset": Digits(), name: made})  # its bounds
    return made


def parse_recipe(row: Mapping[str, object], offered: Inner) -> Recipe:
    """The recipe whose `row` that is, word by word. Raises InvalidInput for missing and unknown fields too."""
    missing = [item.name for item in fields(Recipe) if item.name not in row]
    values = {name: parse_recipe_field(name, value, offered) for name, value in row.items()}
    if missing:
        raise InvalidInput(f"a recipe without {', '.join(missing)}; it is of another version of sharpbench")
    recipe = Recipe(**values)
    for name, value in recipe.row().items():
        if value != row[name]:
            raise InvalidInput(f"{name}={short(str(row[name]))} is written {short(str(value))}")
    return recipe
