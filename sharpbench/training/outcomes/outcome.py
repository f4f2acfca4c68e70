"""Outcome: a number of a trained network that measures are judged by; and what it is found from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sharpbench.datasets.dataset import Data
from sharpbench.training.examples import evaluate_module
from sharpbench.training.network import TrainingResult
from sharpbench.training.recipe import Recipe

MIN_WEIGHT_DIMENSIONS = 2
"""Parameters with fewer dimensions, biases and the scales of norms, are neither quantised nor pruned."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgedNetwork:
    """A trained network with its data, as outcomes see it; measures never see the test examples.

    Attributes:
        module: the network in eval mode at its weights. An outcome leaves it as it is (see `changed_weights`).
        recipe: how it was trained.
        result: its losses and accuracies.
        data: its data set, on the device of the module.
        inputs: its training inputs [n, ...], on that device.
        targets: its training labels [n].
    """

    module: nn.Module
    recipe: Recipe
    result: TrainingResult
    data: Data
    inputs: Tensor
    targets: Tensor

    def accuracy_lost(self, inputs: Tensor | None = None) -> float:
        """The test accuracy of the trained network less that of `module` as it is now, on other `inputs` if given."""
        tested = self.data.test_inputs if inputs is None else inputs
        _, accuracy = evaluate_module(self.module, tested, self.data.test_targets)
        return self.result.test_accuracy - accuracy

    def weights(self) -> dict[str, Tensor]:
        """The parameters of at least two dimensions, by name."""
        return {
            name: value.detach()
            for name, value in self.module.named_parameters()
            if value.dim() >= MIN_WEIGHT_DIMENSIONS
        }

    @contextmanager
    def changed_weights(self, changed: Mapping[str, Tensor]) -> Iterator[None]:
        """The block sees the module with these parameters; afterwards it has its own again."""
        params = dict(self.module.named_parameters())
        before = {name: params[name].detach().clone() for name in changed}
        try:
            _copy_into(params, changed)
            yield
        finally:
            _copy_into(params, before)


def _copy_into(params: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            params[name].copy_(value)


@dataclass(frozen=True)
class Outcome(ABC):
    """A number of a trained network that measures are judged by; larger is worse, as for the generalization gap.

    Attributes:
        version: is raised when the values change; stored values of another version are found again.
        in_truth: whether the training result, which every record holds, determines it.
    """

    version: ClassVar[int] = 1
    in_truth: ClassVar[bool] = False

    @property
    @abstractmethod
    def name(self) -> str:
        """The name on the command line and in records: lower-case letters, digits and hyphens."""

    @property
    @abstractmethod
    def meaning(self) -> str:
        """What the number is, in words for the axis of a figure."""

    @abstractmethod
    def find(self, network: JudgedNetwork) -> float:
        """The number; it may be infinite or NaN for a network that diverged. The module is left as it was."""

    def objection(self, data: Data) -> str | None:
        """Why the outcome is not defined on this data set; None where it is."""
        return None


@dataclass(frozen=True)
class AccuracyGap(Outcome):
    """Training accuracy less test accuracy."""

    in_truth: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """See Outcome."""
        return "gap"

    @property
    def meaning(self) -> str:
        """See Outcome."""
        return "training accuracy - test accuracy"

    def find(self, network: JudgedNetwork) -> float:
        """See Outcome."""
        return network.result.gap


@dataclass(frozen=True)
class LossGap(Outcome):
    """Test loss less training loss, mean cross entropies in nats."""

    in_truth: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """See Outcome."""
        return "loss-gap"

    @property
    def meaning(self) -> str:
        """See Outcome."""
        return "test loss - training loss, in nats"

    def find(self, network: JudgedNetwork) -> float:
        """See Outcome."""
        train, test = network.result.train_loss, network.result.test_loss
        return math.nan if train is None or test is None else test - train


@dataclass(frozen=True)
class Calibration(Outcome):
    """The expected calibration error on the test examples (Guo, Pleiss, Sun, Weinberger 2017, equation 3).

    The confidence of an example is the largest probability of its softmax. Confidences are divided into 15 bins of
    equal width, each with its upper end. The error is the mean over examples of |accuracy - mean confidence| of the
    example's bin.
    """

    bins: ClassVar[int] = 15

    @property
    def name(self) -> str:
        """See Outcome."""
        return "calibration"

    @property
    def meaning(self) -> str:
        """See Outcome."""
        return "expected calibration error on the test examples"

    def find(self, network: JudgedNetwork) -> float:
        """See Outcome."""
        with torch.no_grad():
            parts = network.data.test_inputs.split(512)
            logits = torch.cat([network.module(part) for part in parts])
        return calibration_error(logits, network.data.test_targets, bins=self.bins)


def calibration_error(logits: Tensor, targets: Tensor, *, bins: int) -> float:
    """The expected calibration error of logits [n, C] with targets [n]; see Calibration.

    >>> confident = torch.tensor([[9.0, 0.0], [9.0, 0.0]])
    >>> round(calibration_error(confident, torch.tensor([0, 1]), bins=15), 3)
    0.5
    """
    confidences, guesses = logits.double().softmax(1).max(1)
    if not bool(confidences.isfinite().all()):
        return math.nan
    index = (confidences * bins).ceil().long().clamp(1, bins) - 1
    right = (guesses == targets).double()
    sums = torch.zeros(bins, dtype=torch.float64, device=logits.device).index_add(0, index, right - confidences)
    return float(sums.abs().sum() / len(targets))
