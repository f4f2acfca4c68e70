"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sharpbench.training.optimizers.optimizer import (
    Gradient,
    Optimizer,
    Stack,
    State,
    Step,
    add_scaled,
    expand_like,
    make_zeros,
)


@dataclass(frozen=True)
class Sgd(Optimizer):
    """v <- momentum v + g + weight_decay theta; theta <- theta - rate v, as torch.optim.SGD.

    Cost: one gradient per step.

    Attributes:
        momentum: the factor of the last velocity v, from 0 to below 1.

    Raises:
        InvalidInput: for a momentum out of its bounds.
    """

    name: ClassVar[str] = "sgd"
    title: ClassVar[str] = "stochastic gradient descent with momentum"
    source: ClassVar[str] = "Polyak 1964; Sutskever, Martens, Dahl, Hinton 2013, On the importance of initialization"
    momentum: float = 0.9

    def check(self) -> None:
        """See Optimizer."""
        self.within("momentum", 0 <= self.momentum < 1, "from 0 to below 1")

    def initial(self, params: Stack) -> State:
        """See Optimizer: v = 0."""
        return {"velocity": make_zeros(params)}

    def step(self, params: Stack, state: State, gradient: Gradient, at: Step) -> tuple[Stack, State]:
        """See Optimizer: one gradient."""
        return sgd_step(params, state, gradient(params), at)


def sgd_step(params: Stack, state: State, gradients: Stack, at: Step) -> tuple[Stack, State]:
    """Parameters and state after one step of SGD with these gradients; other entries of the state stay as they are."""
    velocity = add_scaled(gradients, at.weight_decay, params)
    for name, value in velocity.items():
        value.addcmul_(expand_like(at.constants["momentum"], value), state["velocity"][name])
    return add_scaled(params, -at.rate, velocity), {**state, "velocity": velocity}
