"""More than a thousand networks for signals that differ in eight hyperparameters, without label noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from sharpbench.core.fields import check_fields
from sharpbench.core.record import Design
from sharpbench.core.spec import format_spec
from sharpbench.datasets.dataset import Dataset
from sharpbench.errors import InvalidInput
from sharpbench.models import Mlp1d
from sharpbench.models.model import Model
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.cohorts.grid import MAX_NETWORKS, Axis, Grid
from sharpbench.training.optimizers import AdamW, Asam, FriendlySam, Optimizer, Sam, Sgd
from sharpbench.training.recipe import Recipe

AXIS_NAMES = ("learning_rate", "batch_size", "weight_decay", "optimizer", "train_size", "augmentation")


@dataclass(frozen=True)
class Mnist1dThousand(Cohort):
    """A draw from the product of eight hyperparameters, `seeds` networks per configuration, at one training loss.

    Six axes are fields of this cohort. The other two are fields of the model: half its width and its own, one layer
    less and its own depth. All networks train on correct labels until the same loss of the unchanged examples.

    Attributes:
        networks: the largest number of networks per model, drawn as whole configurations; None takes the product.
        seed: the seed of the draw; a larger draw contains a smaller one.
        seeds: networks per configuration.
    """

    name: ClassVar[str] = "mnist1d-thousand"
    title: ClassVar[str] = "a draw from eight hyperparameters of networks for signals, without label noise"
    source: ClassVar[str] = (
        "after Jiang, Neyshabur, Mobahi, Krishnan, Bengio 2020, Fantastic Generalization Measures and Where to Find "
        "Them; values are our own"
    )
    networks: int | None = 750
    seed: int = 0
    seeds: int = 5
    learning_rate: tuple[float, ...] = (0.01, 0.03)
    batch_size: tuple[int, ...] = (32, 128)
    weight_decay: tuple[float, ...] = (1e-5, 1e-3)
    optimizer: tuple[Optimizer, ...] = (Sgd(), Sam(), Asam(), FriendlySam(), AdamW())
    train_size: tuple[int, ...] = (400, 1200)
    augmentation: tuple[float, ...] = (0.0, 0.25)
    decay: float = 1e-4
    max_epochs: int = 2000
    target_loss: float = 0.05
    target_accuracy: float = 0.99

    def __post_init__(self) -> None:
        check_fields(self, kind="cohort")
        for name, value, minimum in (("seeds", self.seeds, 1), ("networks", self.networks, 1)):
            if value is not None and not minimum <= value <= MAX_NETWORKS:
                raise InvalidInput(f"{name}={value} must be from {minimum} to {MAX_NETWORKS:,}")
        self._grid(Mlp1d())

    @property
    def design(self) -> Design:
        """See Cohort.design."""
        return self._grid(Mlp1d()).design

    def recipes(self, models: Sequence[Model], dataset: Dataset) -> tuple[Recipe, ...]:
        """See Cohort.recipes."""
        fixed = {name: getattr(self, name) for name in ("decay", "max_epochs", "target_loss", "target_accuracy")}
        return tuple(recipe for model in models for recipe in self._grid(model).recipes((model,), dataset, fixed))

    def _grid(self, model: Model) -> Grid:
        """The grid of the axes for one model, with the draw from it."""
        axes = [Axis(name, getattr(self, name)) for name in AXIS_NAMES]
        sizes: dict[str, Any] = {item.name: getattr(model, item.name) for item in fields(model)}
        if missing := [name for name in ("width", "depth") if name not in sizes]:
            raise InvalidInput(
                f"model '{format_spec(model)}' has no '{missing[0]}' to vary; choose mlp-1d, cnn-1d or transformer-1d"
            )
        width, depth = sizes["width"], sizes["depth"]
        if width < 2 or depth < 2:
            raise InvalidInput(
                f"model '{format_spec(model)}': cohort '{self.name}' halves the width and takes a layer away; choose a "
                "width and a depth of at least 2"
            )
        axes += [Axis("width", (width, width // 2), True), Axis("depth", (depth, depth - 1), True)]
        return Grid(tuple(axes), tuple(range(self.seeds)), self.networks, self.seed)
