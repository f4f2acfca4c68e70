"""Networks that fit increasing shares of permuted labels, and therefore generalise increasingly badly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sharpbench.core.fields import check_fields
from sharpbench.datasets.dataset import Dataset
from sharpbench.errors import InvalidInput
from sharpbench.models.model import Model
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.cohorts.grid import MAX_NETWORKS
from sharpbench.training.optimizers import Optimizer, Sgd
from sharpbench.training.recipe import Recipe

SOURCE = "Ibayashi, Hamaguchi, Imaizumi 2021, Minimum Sharpness, section 5.2"


@dataclass(frozen=True)
class LabelNoise(Cohort):
    """Each model at `ratios` equally spaced label-noise ratios from 0 to 1, `seeds` networks each.

    Optimiser (SGD with momentum 0.9), weight decay (1e-5) and the schedule rate / (decay * step + 1) are the paper's.
    Batch size, rate and decay are chosen so that a network fits a small training set in seconds.
    """

    name: ClassVar[str] = "label-noise"
    title: ClassVar[str] = "label-noise ratios from 0 to 1, sized for a laptop"
    source: ClassVar[str] = SOURCE
    ratios: int = 5
    seeds: int = 5
    train_size: int | None = 256
    learning_rate: float = 0.02
    batch_size: int = 64
    decay: float = 1e-4
    max_epochs: int = 300
    target_loss: float = 0.01
    target_accuracy: float = 1.0
    optimizer: Optimizer = Sgd()
    weight_decay: float = 1e-5

    def __post_init__(self) -> None:
        check_fields(self, kind="cohort")
        for name, value, minimum in (("ratios", self.ratios, 2), ("seeds", self.seeds, 1)):
            if value < minimum:
                raise InvalidInput(f"{name}={value} must be at least {minimum}")
        if self.ratios * self.seeds > MAX_NETWORKS:
            raise InvalidInput(f"ratios={self.ratios} times seeds={self.seeds} must be at most {MAX_NETWORKS} networks")

    def recipes(self, models: Sequence[Model], dataset: Dataset) -> tuple[Recipe, ...]:
        """See Cohort.recipes."""
        return tuple(
            Recipe(
                model=model,
                dataset=dataset,
                label_noise=round(step / (self.ratios - 1), 6),
                train_size=self.train_size,
                optimizer=self.optimizer,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                batch_size=self.batch_size,
                decay=self.decay,
                max_epochs=self.max_epochs,
                target_loss=self.target_loss,
                target_accuracy=self.target_accuracy,
                seed=seed,
            )
            for model in models
            for step in range(self.ratios)
            for seed in range(self.seeds)
        )


@dataclass(frozen=True)
class LabelNoiseMnist(Cohort):
    """11 ratios on 4,096 training images, fitted to a training accuracy of at least 99 %.

    Batches of 256. The rate is 0.1 for perceptrons and 0.05 for convolutional networks: of the rates tried, mlp and
    lenet fit random labels fastest with these on a CPU. Networks that have not fitted after `max_epochs` are counted
    as excluded in the tables.
    """

    name: ClassVar[str] = "label-noise-mnist"
    title: ClassVar[str] = "label-noise ratios from 0 to 1 on 4,096 images, fitted to 99 %"
    source: ClassVar[str] = SOURCE
    ratios: int = 11
    seeds: int = 3
    train_size: int = 4096
    max_epochs: int = 300
    target_loss: float = 0.05
    target_accuracy: float = 0.99
    optimizer: Optimizer = Sgd()

    def __post_init__(self) -> None:
        check_fields(self, kind="cohort")
        LabelNoise(ratios=self.ratios, seeds=self.seeds)

    def recipes(self, models: Sequence[Model], dataset: Dataset) -> tuple[Recipe, ...]:
        """See Cohort.recipes."""
        recipes: list[Recipe] = []
        for model in models:
            cohort = LabelNoise(
                ratios=self.ratios,
                seeds=self.seeds,
                train_size=self.train_size,
                learning_rate=0.1 if "mlp" in model.name else 0.05,
                batch_size=256,
                max_epochs=self.max_epochs,
                target_loss=self.target_loss,
                target_accuracy=self.target_accuracy,
                optimizer=self.optimizer,
            )
            recipes.extend(cohort.recipes((model,), dataset))
        return tuple(recipes)


@dataclass(frozen=True)
class LabelNoisePaper(Cohort):
    """The paper's cohort: 11 ratios, 10 networks each, all training data, batches of 1,024.

    Perceptrons have rate 0.1 and 3,000 epochs, convolutional networks rate 0.01 and 1,000 epochs; the decay is 1e-4.
    The paper trains for all epochs; here training stops at a loss of 1e-4. It takes hours on a GPU.
    """

    name: ClassVar[str] = "label-noise-paper"
    title: ClassVar[str] = "the paper's label-noise cohort: 11 ratios x 10 seeds, full batches of 1,024"
    source: ClassVar[str] = SOURCE
    ratios: int = 11
    seeds: int = 10

    def __post_init__(self) -> None:
        LabelNoise(ratios=self.ratios, seeds=self.seeds)

    def recipes(self, models: Sequence[Model], dataset: Dataset) -> tuple[Recipe, ...]:
        """See Cohort.recipes."""
        recipes: list[Recipe] = []
        for model in models:
            perceptron = "mlp" in model.name
            cohort = LabelNoise(
                ratios=self.ratios,
                seeds=self.seeds,
                train_size=None,
                learning_rate=0.1 if perceptron else 0.01,
                batch_size=1024,
                max_epochs=3000 if perceptron else 1000,
                target_loss=1e-4,
            )
            recipes.extend(cohort.recipes((model,), dataset))
        return tuple(recipes)
