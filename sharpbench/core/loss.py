"""Criterion: the loss of one example as a function of its logits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

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
    if criterion.kind == "custom":
        _check_divisor(criterion, logits, targets)
    losses = criterion(torch.cat((logits, logits)), torch.cat((targets[:1], targets[:1])))
    if losses.shape != (2,):
        raise InvalidInput(
            f"criterion '{criterion.name}' returns shape {list(losses.shape)} for two examples; "
            "expected losses [2], one an example: use reduction='none', or loss='cross_entropy'"
        )


class _WeightedMeans(TorchFunctionMode):
    """Records calls of losses whose mean, as torch has it, does not divide by the number of examples.

    These are cross entropy and negative log-likelihood of class indices: torch divides the sum by that of the targets'
    class weights, where ignored targets have the weight 0. calls: arguments and result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[dict[str, Any], object]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (F.cross_entropy, F.nll_loss):
            bound = inspect.signature(func).bind(*args, **(kwargs or {}))
            bound.apply_defaults()
            if not bound.arguments["target"].is_floating_point():  # of probabilities the mean is over examples
                self.calls.append((dict(bound.arguments), result))
        return result


def _check_divisor(criterion: PerExampleLoss, logits: Tensor, targets: Tensor) -> None:
    """Raise InvalidInput where torch's mean of the losses would not divide by the number of examples.

    That is known where the criterion returns what a loss of torch returns; what it makes of it is its own definition.
    """
    with _WeightedMeans() as seen:
        losses = criterion.losses(torch.cat((logits, logits)), torch.cat((targets[:1], targets[:1])))
    for call in (arguments for arguments, result in seen.calls if result is losses):
        if call["weight"] is not None:
            raise InvalidInput(
                f"criterion '{criterion.name}' has class weights: torch's mean divides by the sum of the targets' "
                "weights, not by the number of examples; give a function of unweighted losses times weight[targets], "
                "and divide by the mean of weight[targets] over all examples where torch's mean is meant"
            )
        ignored = int((targets == call["ignore_index"]).sum())
        if ignored:
            raise InvalidInput(
                f"criterion '{criterion.name}' ignores {ignored} of {targets.numel()} targets, {call['ignore_index']}: "
                "torch's mean does not count them, a mean over examples does; leave these examples out"
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
