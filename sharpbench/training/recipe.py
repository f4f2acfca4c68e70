"""Recipe: everything that determines one trained network; and recipes parsed from plain values."""

from __future__ import annotations

import functools
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sharpbench.core.code_identity import describe_code
from sharpbench.core.fields import Scalar, field_error, is_finite
from sharpbench.core.registry import available
from sharpbench.core.spec import Inner, format_spec, parse_spec, to_config
from sharpbench.datasets import Digits
from sharpbench.datasets.dataset import Dataset
from sharpbench.errors import InvalidInput, shorten, suggest_names
from sharpbench.files import content_hash
from sharpbench.models import SmallMlp
from sharpbench.models.model import Model
from sharpbench.training.optimizers import Optimizer, Sgd
from sharpbench.training.zoo import Origin

DataSource = tuple[Dataset, str | None]
"""A data set and how its images are prepared (see Recipe.data_source)."""
RECORDED_FIELDS = ("inputs", "code")
"""Fields that sharpbench sets; users do not choose them."""
MAX_INTEGER = 2**63 - 1
"""The largest integer in a recipe, in absolute value: TOML and JSON readers agree up to it."""
ADDED_FIELDS: Mapping[str, Scalar] = {"augmentation": 0.0, **dict.fromkeys(RECORDED_FIELDS)}
"""Fields that the first recipes did not have -> the value with which a row leaves them out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that determines one trained network.

    Training ends when the mean training loss over an epoch is at most `target_loss` and a full pass confirms both
    targets; or after `max_epochs`, and then the network counts as not fitted. Initialisation, label noise and the
    order of examples are drawn from the hash of the whole recipe, so no two networks share any of them.

    Args:
        model: the network (see Model).
        dataset: the data set (see Dataset).
        label_noise: the share of the training examples whose labels are permuted among themselves, from 0 to 1.
        train_size: the number of training examples, a fixed subset; None uses all.
        optimizer: the update rule (see Optimizer).
        learning_rate: the rate at step 0; at step t it is learning_rate / (decay t + 1).
        weight_decay: the coefficient of the optimiser's weight decay.
        decay: how fast the learning rate falls, per step.
        batch_size: examples per step.
        max_epochs: the longest training.
        target_loss: the mean training loss (nats) at which training ends.
        target_accuracy: the training accuracy that is also required, from 0 to 1.
        augmentation: how much each training example is changed anew in each epoch (see `Augmentation`): signals as a
            share of what the generator of MNIST-1D does, images as a share of the usual random crop and mirroring; 0
            changes nothing. Targets are those of the unchanged examples.
        seed: tells apart networks that agree in everything else.
        inputs: how the model prepares images (see Model.describe_transform); None: as the data set holds them.
        code: what identifies code that is not part of sharpbench (see `describe_code`); None where there is none.
            `identify` sets it. It is part of the key, but no random numbers depend on it.

    Raises:
        InvalidInput: for a field out of its bounds.

    >>> from sharpbench import Recipe
    >>> from sharpbench.datasets import Digits
    >>> from sharpbench.models import SmallMlp
    >>> recipe = Recipe(model=SmallMlp(), dataset=Digits(), label_noise=0.25, seed=3)
    >>> recipe.title
    'small-mlp on digits, label noise 0.25, seed 3'
    >>> recipe.row()["optimizer"]
    'sgd'
    """

    model: Model
    dataset: Dataset
    label_noise: float = 0.0
    train_size: int | None = None
    optimizer: Optimizer = Sgd()
    learning_rate: float = 0.05
    weight_decay: float = 1e-5
    decay: float = 1e-4
    batch_size: int = 64
    max_epochs: int = 300
    target_loss: float = 0.01
    target_accuracy: float = 1.0
    augmentation: float = 0.0
    seed: int = 0
    inputs: str | None = None
    code: str | None = None

    def __post_init__(self) -> None:
        _require("label_noise", self.label_noise, 0.0 <= self.label_noise <= 1.0, "from 0 to 1")
        _require("learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        _require("weight_decay", self.weight_decay, self.weight_decay >= 0, "at least 0")
        _require("decay", self.decay, self.decay >= 0, "at least 0")
        _require_whole("batch_size", self.batch_size)
        _require_whole("max_epochs", self.max_epochs)
        _require("target_loss", self.target_loss, self.target_loss > 0, "above 0")
        _require("target_accuracy", self.target_accuracy, 0 <= self.target_accuracy <= 1, "from 0 to 1")
        _require("augmentation", self.augmentation, 0.0 <= self.augmentation <= 1.0, "from 0 to 1")
        if self.train_size is not None:
            _require_whole("train_size", self.train_size)
        _require_whole("seed", self.seed, least=-MAX_INTEGER)

    def row(self) -> dict[str, Scalar]:
        """All fields as JSON scalars; model, data set and optimiser as canonical specs.

        ADDED_FIELDS are left out at their first values, so recipes without them have the keys of earlier versions.
        """
        parts = {"model": self.model, "dataset": self.dataset, "optimizer": self.optimizer}
        row = {**to_config(self), **{name: format_spec(part) for name, part in parts.items()}}
        return {name: value for name, value in row.items() if name not in ADDED_FIELDS or value != ADDED_FIELDS[name]}

    @property
    def key(self) -> str:
        """The SHA-256 of `row`, which identifies the recipe."""
        return content_hash(self.row())

    @property
    def seed_key(self) -> str:
        """The SHA-256 of `row` without `code`, from which random numbers are drawn."""
        return content_hash({name: value for name, value in self.row().items() if name != "code"})

    @property
    def data_source(self) -> DataSource:
        """The data set and how its images are prepared; recipes that agree in both have the same tensors."""
        return self.dataset, self.inputs

    def identify(self, *, images: bool) -> Recipe:
        """The recipe with `inputs` and `code` as they are in this installation.

        images: whether the data set holds images, which the model's transform is applied to.
        """
        parts = (self.model, self.optimizer, self.dataset)
        code = describe_code(parts, self.model.libraries)
        return replace(self, inputs=self.model.describe_transform() if images else None, code=code)

    @property
    def title(self) -> str:
        """Model, data set, label noise and seed, for progress lines."""
        where = f"{format_spec(self.model)} on {format_spec(self.dataset)}"
        return f"{where}, label noise {self.label_noise:g}, seed {self.seed}"


def distinct_titles(recipes: Sequence[Recipe]) -> list[str]:
    """The title of each recipe, followed by the other fields in which some of them differ."""
    rows = [recipe.row() for recipe in recipes]
    in_title = ("model", "dataset", "label_noise", "seed")
    varying = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in in_title]
    varying = [name for name in varying if len({row.get(name) for row in rows}) > 1]
    return [
        ", ".join([recipe.title, *(f"{name.replace('_', ' ')} {row.get(name)}" for name in varying)])
        for recipe, row in zip(recipes, rows, strict=True)
    ]


def network_key(recipe: Recipe, data_sha256: str, device: str) -> str:
    """The key of a trained network in the zoo: a SHA-256 of the recipe, the data's content and the kind of device."""
    return Origin(recipe.row(), data_sha256, device).key


def _require(name: str, value: float | None, holds: bool, bound: str) -> None:
    if not holds or (value is not None and not is_finite(value)):
        finite = "" if value is None or is_finite(value) else ", and finite"
        raise InvalidInput(f"{name}={shorten(str(value))} must be {bound}{finite}")


def _require_whole(name: str, value: int, *, least: int = 1) -> None:
    """Raise InvalidInput for a whole number that is not from `least` to MAX_INTEGER."""
    if not least <= value <= MAX_INTEGER:
        bound = f"at least {least}" if value < least else f"at most {MAX_INTEGER}"
        raise InvalidInput(f"{name}={shorten(str(value))} must be {bound}")


def available_parts(plugins: Sequence[Path] = ()) -> Inner:
    """The models, data sets and optimisers that a recipe may name, installed or from the files `plugins`."""
    return {
        Model: available("models", plugins).classes,
        Dataset: available("datasets", plugins).classes,
        Optimizer: available("optimizers", plugins).classes,
    }


def parse_recipe_field(name: str, value: object, offered: Inner) -> Any:
    """The value of the recipe's field `name`, from a plain value as TOML and JSON hold it.

    Args:
        name: the field of Recipe.
        value: a number, a text or None. Models, data sets and optimisers are specs such as "sam[rho=0.1]".
        offered: `available_parts()`.

    Raises:
        InvalidInput: for an unknown field, or a value of another type or out of bounds. The message is one line
            with name, value and bound.

    >>> parse_recipe_field("optimizer", "sgd[momentum=0.5]", available_parts())
    Sgd(momentum=0.5)
    """
    hints = _recipe_annotations()
    if name not in hints:
        hint = suggest_names(name, hints) or f"it has {', '.join(hints)}"
        raise InvalidInput(f"a recipe has no '{shorten(name)}'; {hint}")
    annotation = hints[name]
    if annotation in offered:
        if not isinstance(value, str):
            raise InvalidInput(f"{name}={shorten(str(value))} is not text; write it as on the command line")
        parsed: Any = parse_spec(value, offered[annotation], kind=annotation.__name__.lower(), inner=offered)
    else:
        if wrong := field_error(value, annotation):
            raise InvalidInput(f"{name}={shorten(str(value))} {wrong}")
        parsed = float(value) if annotation is float else value  # type: ignore[arg-type]  # a number, as checked
    Recipe(**{"model": SmallMlp(), "dataset": Digits(), name: parsed})  # checks the bounds
    return parsed


@functools.cache
def _recipe_annotations() -> dict[str, Any]:
    return typing.get_type_hints(Recipe)


def parse_recipe(row: Mapping[str, object], offered: Inner) -> Recipe:
    """The recipe whose `Recipe.row` is `row`.

    Raises InvalidInput as `parse_recipe_field` does, for missing fields, and for a value that is not written as
    `Recipe.row` writes it.
    """
    missing = [item.name for item in fields(Recipe) if item.name not in row and item.name not in ADDED_FIELDS]
    values = {name: parse_recipe_field(name, value, offered) for name, value in row.items()}
    if missing:
        raise InvalidInput(f"a recipe without {', '.join(missing)}; it is of another version of sharpbench")
    recipe = Recipe(**values)
    for name, value in recipe.row().items():
        if value != row.get(name):
            raise InvalidInput(f"{name}={shorten(str(row.get(name)))} must be written {shorten(str(value))}")
    for name in row:
        if name not in recipe.row():  # another spelling would be another network of the same name
            raise InvalidInput(
                f"{name}={shorten(str(row[name]))} must be left out, as it is what a recipe has without it"
            )
    return recipe
