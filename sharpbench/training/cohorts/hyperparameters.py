"""Networks that differ in architecture and training, as in the large studies of generalization measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from sharpbench.core.fields import check_fields
from sharpbench.core.record import Design
from sharpbench.core.spec import format_value
from sharpbench.datasets.dataset import Dataset
from sharpbench.errors import InvalidInput, shorten
from sharpbench.models.model import Model
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.cohorts.grid import MAX_NETWORKS, Axis, Grid
from sharpbench.training.optimizers import Asam, Optimizer, Sam, Sgd
from sharpbench.training.recipe import Recipe

AxisName = Literal[
    "width",
    "depth",
    "learning_rate",
    "batch_size",
    "weight_decay",
    "optimizer",
    "train_size",
    "label_noise",
    "augmentation",
]
AXIS_NAMES: tuple[AxisName, ...] = get_args(AxisName)
DEFAULT_AXES = AXIS_NAMES[:-1]
"""The axes where none are named: without augmentation, which came later, so that earlier draws are drawn again."""
MODEL_AXES = ("width", "depth")


@dataclass(frozen=True)
class Hyperparameters(Cohort):
    """The product of the axes named in `axes`, with `seeds` networks per configuration, or a random draw of it.

    A field that is not in `axes` has its first value; width and depth are then those of the model. To vary width or
    depth, the model must have these fields.

    Attributes:
        axes: the fields that vary.
        networks: the largest number of networks per model, drawn as whole configurations; None takes the product.
        seed: the seed of the draw; a larger draw contains a smaller one.
        seeds: networks per configuration.
    """

    name: ClassVar[str] = "hyperparameters"
    title: ClassVar[str] = "a grid of up to nine hyperparameters and the seed, or a random draw of it"
    source: ClassVar[str] = (
        "after Jiang, Neyshabur, Mobahi, Krishnan, Bengio 2020, Fantastic Generalization Measures and Where to Find "
        "Them, and Dziugaite et al. 2020, In Search of Robust Measures of Generalization; values are our own"
    )
    axes: tuple[AxisName, ...] = DEFAULT_AXES
    networks: int | None = 300
    seed: int = 0
    seeds: int = 5
    width: tuple[int, ...] = (40, 20, 80)
    depth: tuple[int, ...] = (2, 1, 3)
    learning_rate: tuple[float, ...] = (0.01, 0.005, 0.02)
    batch_size: tuple[int, ...] = (64, 32, 128)
    weight_decay: tuple[float, ...] = (1e-5, 1e-4, 1e-3)
    optimizer: tuple[Optimizer, ...] = (Sgd(), Sam(), Asam())
    train_size: tuple[int, ...] = (256, 128, 512)
    label_noise: tuple[float, ...] = (0.0, 0.25, 0.5)
    augmentation: tuple[float, ...] = (0.0, 0.5, 1.0)
    decay: float = 1e-4
    max_epochs: int = 600
    target_loss: float = 0.01
    target_accuracy: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, kind="cohort")
        for name, value, minimum in (("seeds", self.seeds, 1), ("networks", self.networks, 1)):
            if value is not None and value < minimum:
                raise InvalidInput(f"{name}={value} must be at least {minimum}")
        for item in fields(self):
            given = getattr(self, item.name)
            if given == ():
                raise InvalidInput(f"{item.name} has no value; give at least one")
            idle = item.name in AXIS_NAMES and item.name not in self.axes and given != item.default
            if idle and (len(given) > 1 or item.name in MODEL_AXES):
                raise InvalidInput(
                    f"{item.name}={shorten(format_value(given))} would not vary; "
                    f"add {item.name} to axes={'+'.join(self.axes)}"
                )
        if self.seeds > MAX_NETWORKS:
            raise InvalidInput(f"seeds={self.seeds} must be at most {MAX_NETWORKS}")
        self.grid()

    def grid(self) -> Grid:
        """The grid of the axes, with the draw from it."""
        axes = tuple(Axis(name, getattr(self, name), name in MODEL_AXES) for name in self.axes)
        if len(set(self.axes)) < len(axes):
            raise InvalidInput(f"axes={'+'.join(self.axes)} names one axis twice; name each once")
        return Grid(axes, tuple(range(self.seeds)), self.networks, self.seed)

    @property
    def design(self) -> Design:
        """See Cohort.design."""
        return self.grid().design

    def recipes(self, models: Sequence[Model], dataset: Dataset) -> tuple[Recipe, ...]:
        """See Cohort.recipes."""
        fixed: dict[str, Any] = {
            name: getattr(self, name)[0] for name in AXIS_NAMES if name not in self.axes and name not in MODEL_AXES
        }
        targets = {name: getattr(self, name) for name in ("decay", "max_epochs", "target_loss", "target_accuracy")}
        return tuple(self.grid().recipes(models, dataset, {**fixed, **targets}))
