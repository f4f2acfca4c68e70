"""Adam, whose weight decay is part of the gradient, and AdamW, whose weight decay is separate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

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
class Adam(Optimizer):
    """As torch.optim.Adam: weight_decay theta is added to the gradient g.

    m <- beta1 m + (1 - beta1) g; v <- beta2 v + (1 - beta2) g^2;
    theta <- theta - rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon), t from 1.

    Cost: one gradient per step.

    Attributes:
        beta1: the decay of the mean of gradients m, from 0 to below 1.
        beta2: the decay of the mean of squared gradients v, from 0 to below 1.
        epsilon: the term that keeps the denominator above 0.

    Raises:
        InvalidInput: for a field out of its bounds.
    """

    name: ClassVar[str] = "adam"
    title: ClassVar[str] = "adaptive moment estimation"
    source: ClassVar[str] = "Kingma, Ba 2015, Adam: A Method for Stochastic Optimization, Algorithm 1"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def check(self) -> None:
        """See Optimizer."""
        self.within("beta1", 0 <= self.beta1 < 1, "from 0 to below 1")
        self.within("beta2", 0 <= self.beta2 < 1, "from 0 to below 1")
        self.within("epsilon", self.epsilon > 0, "above 0")

    def initial(self, params: Stack) -> State:
        """See Optimizer: both moments are 0."""
        return {"first": make_zeros(params), "second": make_zeros(params)}

    def step(self, params: Stack, state: State, gradient: Gradient, at: Step) -> tuple[Stack, State]:
        """See Optimizer: one gradient."""
        return _adam_step(params, state, add_scaled(gradient(params), at.weight_decay, params), at)


@dataclass(frozen=True)
class AdamW(Adam):
    """As torch.optim.AdamW: Adam without weight decay in the gradient, and theta <- theta - rate weight_decay theta.

    Cost: one gradient per step. Fields and bounds are those of Adam.
    """

    name: ClassVar[str] = "adamw"
    title: ClassVar[str] = "Adam with decoupled weight decay"
    source: ClassVar[str] = "Loshchilov, Hutter 2019, Decoupled Weight Decay Regularization, Algorithm 2"

    def step(self, params: Stack, state: State, gradient: Gradient, at: Step) -> tuple[Stack, State]:
        """See Optimizer: one gradient."""
        gradients = gradient(params)
        return _adam_step(add_scaled(params, -at.rate * at.weight_decay, params), state, gradients, at)


def _adam_step(params: Stack, state: State, gradients: Stack, at: Step) -> tuple[Stack, State]:
    """Parameters and state after one step of Adam with these gradients."""
    beta1, beta2, epsilon = (at.constants[name] for name in ("beta1", "beta2", "epsilon"))
    first = {name: _update_mean(state["first"][name], value, beta1) for name, value in gradients.items()}
    second = {name: _update_mean(state["second"][name], value.square(), beta2) for name, value in gradients.items()}
    time = at.number + 1
    scale = (1 - beta2**time).sqrt()
    directions = {
        name: value / (second[name].sqrt() / expand_like(scale, value) + expand_like(epsilon, value))
        for name, value in first.items()
    }
    return add_scaled(params, -at.rate / (1 - beta1**time), directions), {**state, "first": first, "second": second}


def _update_mean(mean: torch.Tensor, value: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """beta mean + (1 - beta) value."""
    return torch.lerp(mean, value, 1 - expand_like(beta, value))
