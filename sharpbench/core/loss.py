"""Criterion: the loss of one example as a function of its logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sharpbench.core.definitions import cross_entropy, differentiable_operators
from sharpbench.errors import InvalidInput

Losses = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class PerExampleLoss:
    """Losses [B] of logits [B, C] and targets, one an example: never reduced.

    kind: 'cross_entropy' (softmax, natural log, targets [B] of class indices), 'mse' (the mean over the C
    outputs of the squared difference, as torch's reduction='mean' has it for one example; targets [B, C]),
    or 'custom' for any other callable. The curvature engine knows the output Hessian of the first two in
    closed form and differentiates the third.
    """

    kind: Literal["cross_entropy", "mse", "custom"]
    name: str
    losses: Losses

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Losses [B]."""
        if self.kind != "custom":
            return self.losses(logits, targets)
        with differentiable_operators():
            return self.losses(logits, targets)


def _mse(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits - targets).square().mean(1)


CROSS_ENTROPY = PerExampleLoss("cross_entropy", "cross_entropy", cross_entropy)
MSE = PerExampleLoss("mse", "mse", _mse)


def to_per_example_loss(given: str | Losses | PerExampleLoss | None) -> PerExampleLoss:
    """The Criterion that `given` names; None means cross entropy."""
    if isinstance(given, PerExampleLoss):
        return given
    if given is None or given == "cross_entropy":
        return CROSS_ENTROPY
    if given == "mse":
        return MSE
    if isinstance(given, str):
        raise InvalidInput(
            f"criterion '{given}' is unknown; use 'cross_entropy', 'mse' or a callable that returns losses [B]"
        )
    name = getattr(given, "__name__", type(given).__name__)
    return PerExampleLoss("custom", name, given)


def check_outputs(criterion: PerExampleLoss, logits: Tensor, targets: Tensor) -> None:
    """Raise InvalidInput unless the network's output, all targets and the criterion's losses fit together.

    logits: those of the first example, [1, C]; targets: all [n, ...]. A reducing criterion is found by its
    shape, also where there is a single example, because that is repeated to two.
    """
    if logits.ndim != 2:
        raise InvalidInput(f"the network returns a tensor of shape {list(logits.shape)}; expected logits [B, C]")
    _check_targets(criterion, logits.shape[1], targets)
    losses = criterion(torch.cat((logits, logits)), torch.cat((targets[:1], targets[:1])))
    if losses.shape != (2,):
        raise InvalidInput(
            f"criterion '{criterion.name}' returns shape {list(losses.shape)} for two examples; "
            "expected losses [2], one an example: use reduction='none', or criterion='cross_entropy'"
        )


def _check_targets(criterion: PerExampleLoss, classes: int, targets: Tensor) -> None:
    if criterion.kind == "cross_entropy":
        if targets.ndim != 1 or targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
            raise InvalidInput(
                f"targets for cross_entropy must be class indices [n] of an integer type; "
                f"got shape {list(targets.shape)} of {targets.dtype}"
            )
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= classes:
            bad = low if low < 0 else high
            raise InvalidInput(
                f"target {bad} is out of range for a network of {classes} outputs; targets go from 0 to {classes - 1}"
            )
    if criterion.kind == "mse" and not bool(torch.isfinite(targets).all()):
        bad = int((~torch.isfinite(targets)).sum())
        raise InvalidInput(f"targets for mse hold {bad} NaN or infinite entries of {targets.numel()}; leave these out")
    if criterion.kind == "mse" and targets.shape != (len(targets), classes):
        raise InvalidInput(
            f"targets for mse must be [n, {classes}], the shape of the logits; got {list(targets.shape)}"
        )
