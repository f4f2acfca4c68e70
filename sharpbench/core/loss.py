"""Losses: of one example as a function of its outputs, so that their mean is the loss that torch computes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sharpbench.core import pointwise
from sharpbench.core.definitions import cross_entropy, differentiable_operators
from sharpbench.core.output_losses import ClassAxis, ClosedForm, ElementwiseLoss, GaussianLoss, SoftmaxLoss
from sharpbench.core.torch_losses import BINARY, SQUARED, closed_form
from sharpbench.errors import InvalidInput, describe_error

Losses = Callable[[Tensor, Tensor], Tensor]
Kind = Literal["cross_entropy", "mse", "softmax", "elementwise", "gaussian", "custom"]
PLAIN = ("cross_entropy", "mse")
"""Kinds of one label or one vector an example, each example counting the same."""


@dataclass(frozen=True, slots=True)
class PerExampleLoss:
    """Losses [B] of outputs [B, ...] and targets, one an example, whose mean over all n examples is the loss.

    kind:
        'cross_entropy': softmax, natural log, logits [B, C], targets [B] of class indices, each counting once;
        'mse': the mean over the C outputs of the squared difference, as torch's reduction='mean' has it for one
            example; outputs and targets [B, C];
        'softmax', 'elementwise', 'gaussian': any other loss of torch.nn in closed form, see `output_losses`;
        'custom': any other callable, which the curvature engine differentiates.
    form: the closed form; None where there is none.
    size: torch's divisor over all n examples, by n. The loss of an example is its numerator divided by it, so that the
        mean over examples is torch's mean, also where targets count differently. A constant of the subject's data.
    weight_decay: lambda of the penalty (lambda / 2) |theta|^2 over the measured parameters, which is part of the loss
        of the subject and not of `losses`.
    """

    kind: Kind
    name: str
    losses: Losses
    form: ClosedForm | None = field(default=None, compare=False)
    size: float = 1.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.weight_decay, Real) or not 0 <= self.weight_decay < math.inf:
            raise InvalidInput(f"weight_decay={self.weight_decay!r} must be a number of at least 0 and finite")

    @property
    def title(self) -> str:
        """The name; where it is that of a plain loss, also how this loss differs from it."""
        if self.name not in PLAIN or self.kind == self.name:
            return self.name
        part = "class" if self.name == "cross_entropy" else "vector"
        return f"{self.name} with other than one {part} per example"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Losses [B]."""
        if self.kind == "custom":
            with differentiable_operators():
                return self.losses(outputs, targets)
        losses = self.losses(outputs, targets)
        return losses if self.kind in PLAIN else losses / self.size

    def add_penalty(self, value: Tensor, params: Mapping[str, Tensor]) -> Tensor:
        """value + (weight_decay / 2) |theta|^2; `value` itself without weight decay."""
        if self.weight_decay == 0:
            return value
        return value + self.weight_decay / 2 * torch.stack([each.square().sum() for each in params.values()]).sum()

    def fitted(self, outputs: Tensor, targets: Tensor) -> PerExampleLoss:
        """The same for a network's outputs of the first example [1, ...] and all n targets: its class axis, its size.

        Raises InvalidInput where they do not fit together. A callable that reduces over examples is found by its shape.
        """
        if outputs.ndim == 0 or len(outputs) != 1:
            raise InvalidInput(
                f"the network returns a tensor of shape {list(outputs.shape)} for an example; expected outputs [B, ...]"
            )
        if self.form is None:
            _check_callable(self, outputs, targets)
            return self
        form = self.form.fitted(self.name, outputs, targets)
        plain = outputs.ndim == 2 and isinstance(form, SoftmaxLoss) and form.plain
        if plain and bool(form.counted(targets).all()):  # type: ignore[union-attr]
            return self._plain(CROSS_ENTROPY)
        if outputs.ndim == 2 and isinstance(form, ElementwiseLoss) and form.value is pointwise.squared_error:
            return self._plain(MSE)
        found = replace(_of_form(self.name, form), weight_decay=self.weight_decay)
        return found.resized(outputs.shape[1:], targets)

    def _plain(self, loss: PerExampleLoss) -> PerExampleLoss:
        found = replace(loss, name=self.name, weight_decay=self.weight_decay)
        return loss if found == loss else found

    def resized(self, shape: torch.Size, targets: Tensor) -> PerExampleLoss:
        """The same on other examples, by whose size it divides; shape: of one example's outputs."""
        if self.form is None or self.kind in (*PLAIN, "custom"):
            return self
        size = float(self.form.sizes(shape, targets).mean())
        if not size > 0:
            raise InvalidInput(f"the targets' weights under {self.name} sum to {size:g}; at least one must count")
        return replace(self, size=size)

    def shares(self, shape: torch.Size, targets: Tensor) -> Tensor | None:
        """By how much each example counts [n], in the mean 1; None where all count the same.

        Where they do not, the loss is a ratio of two means over examples.
        """
        if self.form is None or self.kind in PLAIN:
            return None
        sizes = self.form.sizes(shape, targets)
        return None if bool((sizes == sizes[0]).all()) else sizes / sizes.mean()

    def describe_no_likelihood(self) -> str | None:
        """Why the loss is no negative log-likelihood whose Fisher information is the output Hessian; None if it is."""
        if self.kind in PLAIN:
            return None
        if self.kind == "softmax" and isinstance(self.form, SoftmaxLoss):
            return f"'{self.name}' has class weights" if self.form.weight is not None else None
        if self.kind == "elementwise" and isinstance(self.form, ElementwiseLoss):
            if self.form.weights_targets:
                return f"'{self.name}' has pos_weight"
            if self.form.likelihood:
                return None
        return f"none is known for '{self.name}'"


def _mse(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits - targets).square().mean(1)


def _of_form(name: str, form: ClosedForm) -> PerExampleLoss:
    kinds: dict[type, Kind] = {SoftmaxLoss: "softmax", ElementwiseLoss: "elementwise", GaussianLoss: "gaussian"}
    return PerExampleLoss(kinds[type(form)], name, form.numerators, form)


CROSS_ENTROPY = PerExampleLoss("cross_entropy", "cross_entropy", cross_entropy, SoftmaxLoss())
MSE = PerExampleLoss("mse", "mse", _mse, SQUARED)
NAMED = {"cross_entropy": CROSS_ENTROPY, "mse": MSE, "bce": _of_form("bce", BINARY)}
"""The losses that a word names."""


def to_per_example_loss(given: str | nn.Module | Losses | PerExampleLoss | None) -> PerExampleLoss:
    """The loss that `given` names; None means cross entropy. Raises InvalidInput for what is not one."""
    if isinstance(given, PerExampleLoss):
        return given
    if given is None:
        return CROSS_ENTROPY
    if isinstance(given, str):
        if given not in NAMED:
            raise InvalidInput(
                f"loss '{given}' is unknown; use 'cross_entropy', 'mse', 'bce', a loss of torch.nn, or a callable that "
                "returns losses [B]"
            )
        return NAMED[given]
    name = getattr(given, "__name__", type(given).__name__)
    if isinstance(given, type):
        raise InvalidInput(f"loss={name} is a class; give an object of it, such as {name}()")
    if not callable(given):
        raise InvalidInput(f"the loss is a {name}; expected a name, a loss of torch.nn, or a callable")
    form = closed_form(given) if isinstance(given, nn.Module) else None
    return PerExampleLoss("custom", name, given) if form is None else _of_form(name, form)


def with_class_axis(loss: str | nn.Module | Losses | PerExampleLoss, axis: ClassAxis) -> PerExampleLoss:
    """The loss with its classes on that axis of the outputs [B, ...]: 1, as torch's losses have it, or -1, the last.

    Needed only where the shapes of outputs and targets leave it open, as for logits [B, T, V] with T = V, and for
    target probabilities.

    Args:
        loss: a loss over classes, as `Subject.from_module` takes it.
        axis: 1 or -1.

    Raises:
        InvalidInput: for a loss without classes, and for another axis.

    >>> sharpbench.with_class_axis(torch.nn.CrossEntropyLoss(ignore_index=0), -1).name
    'CrossEntropyLoss'
    """
    found = to_per_example_loss(loss)
    if not isinstance(found.form, SoftmaxLoss) or axis not in (1, -1):
        raise InvalidInput(f"class axis {axis} of '{found.name}': give a loss over classes, and the axis 1 or -1")
    return _of_form(found.name, replace(found.form, axis=axis))


def _check_callable(loss: PerExampleLoss, outputs: Tensor, targets: Tensor) -> None:
    """Raise InvalidInput unless a callable returns one loss an example, whose mean is torch's.

    It is called for the first example twice, so that a mean over examples shows.
    """
    _check_divisor(loss, outputs, targets)
    losses = loss(torch.cat((outputs, outputs)), torch.cat((targets[:1], targets[:1])))
    if losses.shape != (2,):
        other = (
            f"; {loss.name} with reduction='mean' is taken as torch computes it only for the losses of docs/losses.md"
            if isinstance(loss.losses, nn.Module)
            else ", or give a loss of torch.nn with reduction='mean'"
        )
        raise InvalidInput(
            f"loss '{loss.name}' returns shape {list(losses.shape)} for two examples; expected losses [2], one an "
            f"example: reduce over everything but the examples (reduction='none', then a mean over other axes){other}"
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


def _check_divisor(loss: PerExampleLoss, outputs: Tensor, targets: Tensor) -> None:
    """Raise InvalidInput where torch's mean of the losses would not divide by the number of examples.

    That is known where the callable returns what a loss of torch returns; what it makes of it is its own definition.
    """
    given = torch.cat((outputs, outputs)), torch.cat((targets[:1], targets[:1]))
    with _WeightedMeans() as seen:
        try:
            losses: object = loss.losses(*given)
        except InvalidInput:
            raise
        except Exception as error:  # whatever the user's function raises
            shapes = " and ".join(f"{list(each.shape)} of {each.dtype}" for each in given)
            raise InvalidInput(
                f"loss '{loss.name}' does not run on outputs and targets {shapes}: {describe_error(error)}"
            ) from error
    if not isinstance(losses, Tensor):
        raise InvalidInput(f"loss '{loss.name}' returns a {type(losses).__name__}; expected a tensor of losses [B]")
    for call in (arguments for arguments, result in seen.calls if result is losses):
        remedy = "give torch.nn.CrossEntropyLoss with the same arguments and reduction='mean'"
        if call["weight"] is not None:
            raise InvalidInput(
                f"loss '{loss.name}' has class weights: torch's mean divides by the sum of the targets' weights, a "
                f"mean over examples by their number; {remedy}"
            )
        ignored = int((targets == call["ignore_index"]).sum())
        if ignored:
            raise InvalidInput(
                f"loss '{loss.name}' ignores {ignored} of {targets.numel()} targets, {call['ignore_index']}: torch's "
                f"mean does not count them, a mean over examples does; {remedy}"
            )
