"""Networks trained to one loss by different optimisers, each with several sizes of its ascent step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from sharpbench.core.fields import check_fields
from sharpbench.datasets.dataset import Dataset
from sharpbench.errors import InvalidInput
from sharpbench.models.model import Model
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.cohorts.grid import MAX_NETWORKS, Axis, Grid
from sharpbench.training.optimizers import Asam, FriendlySam, MSam, Optimizer, Sam, Sgd
from sharpbench.training.recipe import Recipe


@dataclass(frozen=True)
class Optimizers(Cohort):
    """Each model trained by each of `optimizers` to the same training loss, with `seeds` networks each.

    An optimiser with a field `rho` is used once per element of `factors`, which multiplies its rho; one without is
    used once. The networks of one optimiser and rho are one configuration.
    """

    name: ClassVar[str] = "optimizers"
    title: ClassVar[str] = "SGD, SAM, ASAM, m-SAM and F-SAM at several rho, at matched training loss"
    source: ClassVar[str] = "Kwon, Kim, Park, Choi 2021; Li, Zhou, He, Cheng, Huang 2024; sizes are our own"
    optimizers: tuple[Optimizer, ...] = (Sgd(), Sam(), Asam(), MSam(), FriendlySam())
    factors: tuple[float, ...] = (0.5, 1.0, 2.0)
    seeds: int = 5
    label_noise: float = 0.0
    train_size: int | None = 256
    learning_rate: float = 0.02
    weight_decay: float = 1e-5
    batch_size: int = 64
    decay: float = 1e-4
    max_epochs: int = 300
    target_loss: float = 0.01
    target_accuracy: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self, kind="cohort")
        if self.seeds < 1:
            raise InvalidInput(f"seeds={self.seeds} must be at least 1")
        if self.seeds > MAX_NETWORKS:
            raise InvalidInput(f"seeds={self.seeds} must be at most {MAX_NETWORKS}")
        if not self.factors or not all(factor > 0 for factor in self.factors):
            raise InvalidInput(f"factors={'+'.join(map(str, self.factors))} must be above 0")
        self._grid()

    def _grid(self) -> Grid:
        return Grid((Axis("optimizer", tuple(self._scaled())),), tuple(range(self.seeds)))

    def _scaled(self) -> Iterator[Optimizer]:
        for optimizer in self.optimizers:
            rho = getattr(optimizer, "rho", None)
            if rho is None:
                yield optimizer
            else:
                yield from (replace(optimizer, rho=float(f"{rho * factor:.6g}")) for factor in self.factors)  # type: ignore[call-arg]

    def recipes(self, models: Sequence[Model], dataset: Dataset) -> tuple[Recipe, ...]:
        """See Cohort.recipes."""
        names = (
            "label_noise", "train_size", "learning_rate", "weight_decay", "batch_size", "decay", "max_epochs",
            "target_loss", "target_accuracy",
        )  # fmt: skip
        return tuple(self._grid().recipes(models, dataset, {name: getattr(self, name) for name in names}))
