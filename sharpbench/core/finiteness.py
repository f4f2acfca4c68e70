"""Where a network's loss or its derivatives are not finite, in words: why a measure has no value there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch

from sharpbench.core.subject import Subject


def describe_non_finite(subject: Subject) -> str | None:
    """The first example or parameter at which the loss or a derivative is not finite; None where all are.

    Takes a forward pass and a gradient, and a derivative of the outputs along the weights. Ways of differentiation that
    the network does not allow are left out.
    """
    for describe in (_describe_losses, _describe_gradient, _describe_directional_derivative):
        with suppress(RuntimeError, NotImplementedError):  # an operator without this derivative
            if found := describe(subject):
                return found
    return None


def _describe_losses(subject: Subject) -> str | None:
    losses = subject.by_example(lambda x, y: subject.criterion(subject.apply(subject.params, x), y).detach())
    return _first_bad(losses, lambda place, value: f"the loss of example {place} is {value}")


def _describe_gradient(subject: Subject) -> str | None:
    for name, value in torch.func.grad(subject.loss)(subject.params).items():
        if not bool(value.isfinite().all()):
            return f"the gradient of the loss by '{name}' is not finite"
    return None


def _describe_directional_derivative(subject: Subject) -> str | None:
    along = subject.by_example(
        lambda x, _: torch.func.jvp(lambda params: subject.apply(params, x), (subject.params,), (subject.params,))[1]
    )
    found = along.detach().flatten(1).abs().amax(1)  # NaN where an entry is
    return _first_bad(
        found, lambda place, _: f"the derivative of the outputs of example {place} along the weights is not finite"
    )


def _first_bad(values: torch.Tensor, describe: Callable[[int, float], str]) -> str | None:
    bad = (~values.isfinite()).nonzero()
    if not len(bad):
        return None
    place = int(bad[0])
    return describe(place, float(values[place]))
