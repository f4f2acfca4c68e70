"""Losses of torch.nn in closed form: sums over the positions of an example, each with the weight that torch gives it.

torch's reduction='mean' divides the sum over a whole batch by its size: the number of entries, or the sum of the
targets' class weights, in which ignored targets count 0. Here the outputs are [B, ...] and everything is by example:
the numerator, and the part of the size that the example has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sharpbench.core.definitions import cross_entropy
from sharpbench.errors import InvalidInput

ClassAxis = Literal[1, -1]

NORMALISED = 1e-3
"""By how much a sum of probabilities, or its logarithm, may be off: those of networks in half precision are."""


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxLoss:
    """-sum_c a_c log p_c at each position, p the softmax over the class axis.

    Of a class index y, a_c = weight_c ((1 - smoothing) [c = y] + smoothing / C); of target shares y_c, [c = y] is y_c.

    axis: of the classes in outputs [B, ...]: 1, where torch's losses have it, or the last; None until it is known.
    shares: whether targets are probabilities, of the outputs' shape. log_outputs: whether outputs are
    log-probabilities, on which the softmax does nothing.
    """

    weight: Tensor | None = None
    ignore_index: int = -100
    smoothing: float = 0.0
    axis: ClassAxis | None = None
    shares: bool = False
    log_outputs: bool = False

    @property
    def plain(self) -> bool:
        """Whether the loss at every position that counts is -log p_y."""
        return self.weight is None and self.smoothing == 0 and not self.shares

    def fitted(self, name: str, outputs: Tensor, targets: Tensor) -> SoftmaxLoss:
        """The same with its class axis. Raises InvalidInput where outputs [1, ...] and all targets do not fit."""
        if outputs.ndim < 2:
            raise InvalidInput(
                f"{name} needs a class axis: the outputs have shape [B{_rest(outputs)}], expected [B, C] or "
                "[B, C, ...]; for one logit an example use loss='bce'"
            )
        shares = targets.is_floating_point() and targets.shape[1:] == outputs.shape[1:]
        axis = self._find_axis(name, outputs, targets, shares)
        classes = outputs.shape[axis]
        if self.weight is not None and self.weight.shape != (classes,):
            raise InvalidInput(f"{name} has weights of shape {list(self.weight.shape)} for {classes} classes")
        if shares:
            sums = targets.double().sum(axis)
            if not bool((targets >= 0).all()) or not bool(((sums - 1).abs() <= NORMALISED).all()):
                raise InvalidInput(
                    f"targets for {name} have the type and the shape of probabilities, which must be at least 0 and "
                    "sum to 1 over the classes; give such ones, or class indices [n] of an integer type"
                )
        else:
            self._check_indices(name, classes, targets)
        if self.log_outputs:
            total = float(outputs.double().movedim(axis, -1).logsumexp(-1).abs().max())
            if not total <= NORMALISED:
                raise InvalidInput(
                    f"{name} takes log-probabilities, and the outputs' exponentials sum to {math.exp(total):.4g}, not "
                    "1; end the network in log_softmax, or use CrossEntropyLoss on its logits"
                )
        return replace(self, axis=axis, shares=shares)

    def _find_axis(self, name: str, outputs: Tensor, targets: Tensor, shares: bool) -> ClassAxis:
        shape, given = outputs.shape[1:], targets.shape[1:]
        if len(shape) == 1:
            if given and not shares:
                raise InvalidInput(
                    f"targets for {name} must be class indices [n] of an integer type; got shape "
                    f"{list(targets.shape)} of {targets.dtype}"
                )
            return 1
        fits: list[ClassAxis] = []
        if given == shape[1:] or shares:
            fits.append(1)
        if given == shape[:-1] or shares:
            fits.append(-1)
        if self.axis is not None and self.axis in fits:
            return self.axis
        if self.axis is None and len(fits) == 1:
            return fits[0]
        sizes = f"outputs [B, {', '.join(map(str, shape))}] and targets [n{_rest(targets)}]"
        if fits and self.axis is None:
            raise InvalidInput(
                f"{sizes} of {name} leave open which axis has the classes; state it: "
                "loss=sharpbench.with_class_axis(loss, 1), as torch has it, or -1 for the last axis"
            )
        raise InvalidInput(
            f"{sizes} do not fit {name}: expected one target a position, [n, ...] for outputs [B, C, ...] or "
            "[B, ..., C]"
        )

    def _check_indices(self, name: str, classes: int, targets: Tensor) -> None:
        if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
            raise InvalidInput(
                f"targets for {name} must be class indices [n] of an integer type; "
                f"got shape {list(targets.shape)} of {targets.dtype}"
            )
        counted = targets[targets != self.ignore_index]
        if not counted.numel():
            raise InvalidInput(f"{name} ignores all {targets.numel()} targets; at least one must count")
        low, high = int(counted.min()), int(counted.max())
        if low < 0 or high >= classes:
            bad = low if low < 0 else high
            raise InvalidInput(
                f"target {bad} is out of range for a network of {classes} outputs; targets go from 0 to {classes - 1}"
            )

    def by_position(self, outputs: Tensor) -> Tensor:
        """[B, P, C] of outputs, or of anything of their shape."""
        assert self.axis is not None
        moved = outputs.movedim(self.axis, -1)
        return moved.reshape(len(outputs), -1, moved.shape[-1])

    def as_outputs(self, values: Tensor, like: Tensor) -> Tensor:
        """The inverse of `by_position`: values [P, C, ...] of one example in the shape of its outputs [...]."""
        assert self.axis is not None
        axis = 0 if self.axis == 1 else like.ndim - 1
        shape = like.movedim(axis, -1).shape
        return values.reshape(*shape, *values.shape[2:]).movedim(like.ndim - 1, axis)

    def counted(self, targets: Tensor) -> Tensor:
        """Which positions have a loss [B, P]: those of targets that are not ignored and whose class has a weight."""
        if self.shares:
            like = self.by_position(targets)
            return torch.ones_like(like[..., 0], dtype=torch.bool)
        flat = targets.reshape(len(targets), -1)
        counted = flat != self.ignore_index
        if self.weight is None or self.smoothing > 0:
            return counted
        positive = self.weight.to(flat.device) > 0
        return counted & positive[torch.where(counted, flat, 0)]

    def masses(self, targets: Tensor, like: Tensor) -> Tensor:
        """sum_c a_c [B, P] in the type of `like`: the output Hessian is that times diag(p) - p p^T."""
        return self._spread(targets, like).sum(-1) if not self.plain else self.counted(targets).to(like)

    def _spread(self, targets: Tensor, like: Tensor) -> Tensor:
        """a [B, P, C] for outputs like [B, P, C]."""
        classes = like.shape[-1]
        if self.shares:
            hot = self.by_position(targets).to(like)
        else:
            flat = targets.reshape(len(targets), -1)
            known = torch.where(flat != self.ignore_index, flat, 0)
            hot = (known[..., None] == torch.arange(classes, device=flat.device)).to(like)
        smoothed = (1 - self.smoothing) * hot + self.smoothing / classes
        weighted = smoothed if self.weight is None else smoothed * self.weight.to(like)
        if self.shares:
            return weighted
        counted = targets.reshape(len(targets), -1) != self.ignore_index
        return torch.where(counted[..., None], weighted, 0.0)

    def numerators(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sums [B] of the losses at an example's positions."""
        logits = self.by_position(outputs)
        if self.smoothing == 0 and not self.shares:
            flat = targets.reshape(len(targets), -1)
            counted = flat != self.ignore_index
            known = torch.where(counted, flat, 0)
            losses = cross_entropy(logits.flatten(0, 1), known.flatten()).reshape(flat.shape)
            weighted = losses if self.weight is None else losses * self.weight.to(losses)[known]
            return torch.where(counted, weighted, 0.0).sum(1)
        spread = self._spread(targets, logits)
        return -torch.where(spread > 0, spread * logits.log_softmax(-1), 0.0).sum((1, 2))

    def sizes(self, shape: torch.Size, targets: Tensor) -> Tensor:
        """The part [B] of torch's divisor that each example has; shape: of its outputs."""
        if self.shares:
            positions = math.prod(shape) / shape[-1 if self.axis == -1 else 0]
            return torch.full((len(targets),), positions, dtype=torch.float64)
        counted = self.counted(targets)
        if self.weight is None:
            return counted.double().sum(1).cpu()
        flat = targets.reshape(len(targets), -1)
        chosen = self.weight.to(flat.device).double()[torch.where(counted, flat, 0)]
        return torch.where(counted, chosen, 0.0).sum(1).cpu()


@dataclass(frozen=True, slots=True, eq=False)
class ElementwiseLoss:
    """factor times a function of one output and its target, at each entry of outputs [B, ...].

    value, second: the function and its second derivative by the output, never negative.
    factor, target_weight: in an example's shape, or None for ones; the second is a third argument of both functions,
        and weighs the targets of the binary cross entropy.
    least, most: bounds of the targets. curved: False where the second derivative is 0.
    likelihood: whether it is a negative log-likelihood whose Fisher information is the second derivative.
    """

    value: Callable[..., Tensor]
    second: Callable[..., Tensor]
    factor: Tensor | None = None
    target_weight: Tensor | None = None
    least: float = -math.inf
    most: float = math.inf
    curved: bool = True
    likelihood: bool = False

    @property
    def weights_targets(self) -> bool:
        """Whether targets of different values count differently."""
        return self.target_weight is not None

    def fitted(self, name: str, outputs: Tensor, targets: Tensor) -> ElementwiseLoss:
        """The same with its weights in an example's shape. Raises InvalidInput for what does not fit."""
        _check_shapes(name, outputs.shape[1:], targets)
        if not bool(((targets >= self.least) & (targets <= self.most)).all()):
            found = f"{float(targets.min()):g} to {float(targets.max()):g}"
            raise InvalidInput(f"targets for {name} go from {found}; they must lie in {self.least:g} to {self.most:g}")

        def shaped(given: Tensor | None) -> Tensor | None:
            return None if given is None else example_tensor(name, given, outputs)

        return replace(self, factor=shaped(self.factor), target_weight=shaped(self.target_weight))

    def numerators(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sums [B] of the losses of an example's entries."""
        return self._of_entries(self.value, outputs, targets).reshape(len(outputs), -1).sum(1)

    def seconds(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The diagonal [B, ...] of the output Hessian of the numerators."""
        return self._of_entries(self.second, outputs, targets)

    def _of_entries(self, function: Callable[..., Tensor], outputs: Tensor, targets: Tensor) -> Tensor:
        weights = () if self.target_weight is None else (self.target_weight.to(outputs),)
        found = function(outputs, targets.to(outputs), *weights)
        return found if self.factor is None else found * self.factor.to(found)

    def sizes(self, shape: torch.Size, targets: Tensor) -> Tensor:
        """The entries of each example [B]."""
        return torch.full((len(targets),), math.prod(shape), dtype=torch.float64)


@dataclass(frozen=True, slots=True, eq=False)
class GaussianLoss:
    """-log of a normal density: the outputs' first half along axis 1 are means, the second half variances.

    eps: the least variance that is used; derivatives by the variance are taken as if it were not raised, as in torch.
    full: with the constant log(2 pi) / 2.
    """

    eps: float = 1e-6
    full: bool = False

    def fitted(self, name: str, outputs: Tensor, targets: Tensor) -> GaussianLoss:
        """Itself. Raises InvalidInput for what does not fit."""
        if outputs.ndim < 2 or outputs.shape[1] % 2:
            raise InvalidInput(
                f"{name} takes means and variances, two halves along axis 1; got outputs [B{_rest(outputs)}]; "
                "return torch.cat((mean, variance), 1)"
            )
        half = outputs.chunk(2, 1)
        if not bool((half[1] >= 0).all()):
            raise InvalidInput(f"{name} got a negative variance; end the network's second half in softplus or exp")
        shape = half[0].shape[1:]
        squeezed = shape[1:] if shape[0] == 1 else shape
        if targets.shape[1:] != squeezed:
            _check_shapes(name, shape, targets)
        return self

    def split(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Targets minus means, variances, and where they are raised to eps, each [B, ...]."""
        mean, variance = outputs.chunk(2, 1)
        raised = variance + (variance.detach().clamp_min(self.eps) - variance.detach())
        return targets.to(mean).reshape(mean.shape) - mean, raised, mean

    def numerators(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sums [B] of the losses of an example's entries."""
        gap, variance, _ = self.split(outputs, targets)
        constant = math.log(2 * math.pi) / 2 if self.full else 0.0
        return ((variance.log() + gap.square() / variance) / 2 + constant).reshape(len(outputs), -1).sum(1)

    def sizes(self, shape: torch.Size, targets: Tensor) -> Tensor:
        """The means of each example [B]."""
        return torch.full((len(targets),), math.prod(shape) / 2, dtype=torch.float64)


ClosedForm = SoftmaxLoss | ElementwiseLoss | GaussianLoss


def example_tensor(name: str, given: Tensor, outputs: Tensor) -> Tensor:
    """`given` in the shape of one example's outputs. Raises InvalidInput where it differs between examples."""
    shape = outputs.shape[1:]
    if given.ndim == len(shape) + 1 and given.shape[0] == 1:
        given = given[0]
    try:
        return given.detach().expand(shape)
    except RuntimeError as error:
        raise InvalidInput(
            f"{name} has a weight of shape {list(given.shape)} for outputs [B{_rest(outputs)}]: it must be the same "
            "for all examples; give a callable that returns losses [B]"
        ) from error


def _check_shapes(name: str, shape: torch.Size, targets: Tensor) -> None:
    if targets.shape[1:] != shape:
        wanted = ", ".join(["n", *map(str, shape)])
        raise InvalidInput(
            f"targets for {name} must be [{wanted}], the shape of the outputs; got {list(targets.shape)}"
        )
    if targets.is_floating_point() and not bool(torch.isfinite(targets).all()):
        bad = int((~torch.isfinite(targets)).sum())
        raise InvalidInput(
            f"targets for {name} hold {bad} NaN or infinite entries of {targets.numel()}; leave these out"
        )


def _rest(tensor: Tensor) -> str:
    return "".join(f", {size}" for size in tensor.shape[1:])
