"""A trained network with its training examples and its training result, which says how it generalises."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from sharpbench.core.fields import Scalar
from sharpbench.core.spec import format_spec
from sharpbench.core.subject import Params, Subject
from sharpbench.datasets.dataset import Data
from sharpbench.training.examples import evaluate_module, initial_module, training_examples
from sharpbench.training.recipe import Recipe, network_key
from sharpbench.training.state import Finished
from sharpbench.training.trainer import StackedTrainer
from sharpbench.training.zoo import Zoo

LOSS_RELATIVE_TOLERANCE, LOSS_TOLERANCE = 1e-3, 1e-5
"""Differences of one training loss between machines, from rounding; the loss of other code differs by more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """Losses, accuracies and generalization gap of one trained network.

    Losses are mean cross entropies in nats. Training figures refer to the noisy labels. A figure that is not finite,
    in a network that diverged, is None.

    Attributes:
        gap: training accuracy - test accuracy.
        fitted: the training reached its target (the convergence gate).
        diverged: the loss or a weight was not finite after an epoch, which was the last.
        seconds: the training time; networks that train together share it equally.
        parameter_norm: the Euclidean norm of all parameters.
    """

    train_loss: float | None
    train_accuracy: float
    test_loss: float | None
    test_accuracy: float
    gap: float
    fitted: bool
    diverged: bool
    steps: int
    epochs: int
    seconds: float
    parameter_norm: float | None

    def row(self) -> dict[str, Scalar]:
        """All fields as JSON scalars."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedNetwork:
    """One network of a cohort. Measures see only its `subject`, which holds no test data.

    Attributes:
        result: losses, accuracies and generalization gap.
        weights: the state dict after training.
        initial: the parameters before training.
        inputs: the training inputs [n, ...].
        targets: the training labels [n], noise included.
    """

    recipe: Recipe
    result: TrainingResult
    weights: Params
    initial: Params
    inputs: Tensor
    targets: Tensor

    def subject(self, module: nn.Module, *, examples: int | None, dtype: torch.dtype, device: str) -> Subject:
        """The network on its training examples, as measures take it.

        Args:
            module: any instance of the recipe's network, on the CPU. The weights are loaded into it. Its graph is
                captured once, also when many networks share the module.
            examples: use only the first ones; None uses all.
            dtype: the dtype of parameters and inputs.
            device: the device of the subject.

        Raises:
            InvalidInput: for weights that are not finite.
        """
        module.load_state_dict(self.weights)
        subject = Subject.from_module(
            module,
            self.inputs[:examples],
            self.targets[:examples],
            initial=self.initial,
            train_size=len(self.inputs),
            name=format_spec(self.recipe.model),
        )
        return subject.to(dtype=dtype, device=device)


def load_network(recipe: Recipe, data: Data, data_sha256: str, *, zoo: Zoo, device: str) -> TrainedNetwork | None:
    """The recipe's network from the zoo, or None where it is not there."""
    stored = zoo.load(network_key(recipe, data_sha256, device))
    if stored is None:
        return None
    weights, row = stored
    module = initial_module(recipe, data.shape, data.classes)
    inputs, targets = training_examples(recipe, data)
    return TrainedNetwork(
        recipe=recipe,
        result=TrainingResult(**row),  # the hash of the entry covers its fields
        weights=weights,
        initial={name: value.detach().clone() for name, value in module.named_parameters()},
        inputs=inputs,
        targets=targets,
    )


def recompute_loss(network: TrainedNetwork, data: Data, device: str) -> float | None:
    """The training loss at the network's weights, as `training_result` found it; None where it is not finite.

    Raises RuntimeError where the weights do not fit the network that its code builds.
    """
    module = initial_module(network.recipe, data.shape, data.classes)
    module.load_state_dict(network.weights)
    loss, _ = evaluate_module(module.to(device), network.inputs.to(device), network.targets.to(device))
    return _finite(loss)


def training_result(trainer: StackedTrainer, index: int, network: Finished, data: Data) -> TrainingResult:
    """Losses, accuracies and gap of the network at `index` of the trainer's group."""
    module = trainer.load(network.weights)
    train_loss, train_accuracy = evaluate_module(module, trainer.inputs, trainer.targets[index])
    test_inputs, test_targets = data.test_inputs.to(trainer.device), data.test_targets.to(trainer.device)
    test_loss, test_accuracy = evaluate_module(module, test_inputs, test_targets)
    norm = math.sqrt(sum(float(value.detach().double().square().sum()) for value in module.parameters()))
    return TrainingResult(
        train_loss=_finite(train_loss),
        train_accuracy=train_accuracy,
        test_loss=_finite(test_loss),
        test_accuracy=test_accuracy,
        gap=train_accuracy - test_accuracy,
        fitted=network.epoch.fitted,
        diverged=network.epoch.diverged,
        steps=network.epoch.steps,
        epochs=network.epoch.number,
        seconds=network.seconds,
        parameter_norm=_finite(norm),
    )


def losses_agree(stored: float | None, found: float | None) -> bool:
    """Whether two training losses are equal up to rounding; None is a loss that is not finite."""
    if stored is None or found is None:
        return stored is found
    return math.isclose(stored, found, rel_tol=LOSS_RELATIVE_TOLERANCE, abs_tol=LOSS_TOLERANCE)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
