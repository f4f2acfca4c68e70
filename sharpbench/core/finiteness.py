"""Where a network's loss or its derivatives are not finite, in words: why a measure has no value there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch

from sharpbench.core.subject import Params, Subject


def describe_non_finite(subject: Subject) -> str | None:
    """The first example or parameter at which the loss or a derivative is not finite; None where all are.

    Takes a forward pass and a gradient, a derivative of the outputs along the weights and a product with the Hessian.
    Ways of differentiation that the network does not allow are left out.
    """
    for describe in (
        _describe_losses,
        _describe_gradient,
        _describe_directional_derivative,
        _describe_second_derivatives,
    ):
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


def _describe_second_derivatives(subject: Subject) -> str | None:
    ones = {name: torch.ones_like(value) for name, value in subject.params.items()}

    def finite(places: torch.Tensor) -> bool:
        inputs, targets = subject.pick(places)

        def loss(params: Params) -> torch.Tensor:
            return subject.criterion(subject.apply(params, inputs), targets).sum()

        product = torch.func.jvp(torch.func.grad(loss), (subject.params,), (ones,))[1]
        return all(bool(value.isfinite().all()) for value in product.values())

    for places in torch.arange(subject.n, device=subject.device).split(subject.batch_size):
        if not finite(places):
            bad = next((int(place) for place in places if not finite(place[None])), int(places[0]))
            return f"the second derivatives of the loss of example {bad} are not finite"
    return None


def _first_bad(values: torch.Tensor, describe: Callable[[int, float], str]) -> str | None:
    bad = (~values.isfinite()).nonzero()
    if not len(bad):
        return None
    place = int(bad[0])
    return describe(place, float(values[place]))
