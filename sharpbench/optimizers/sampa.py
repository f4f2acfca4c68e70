"""SAMPa: both gradients of a step at points that are known when it begins, so that they need not wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sharpbench.optimizers.optimizer import Gradient, State, Step
from sharpbench.optimizers.sam import Sam, ascent
from sharpbench.optimizers.sgd import descent
from sharpbench.optimizers.stack import Stack, along, zeros


@dataclass(frozen=True)
class SamPa(Sam):
    """The ascent follows the gradient at y, where a step of SGD with the gradient at the previous y leads.

    above_t = theta_t + rho g(y_t) / |g(y_t)|; y_(t+1) = theta_t - rate g(y_t);
    theta_(t+1) = theta_t - rate ((1 - weight) g(above_t) + weight g(y_(t+1))). The first batch is a step of SGD from
    theta_0, to where theta_1 and y_1 are.
    As in the authors' code both steps have momentum and weight decay, g(above_t) is of the batch of y_t and
    g(y_(t+1)) of the next. Here each batch gives the second of one step and then the first of the next: the same
    parameters, two gradients a batch. The loss of a batch, and running statistics (batch norm), are those at y.
    """

    name: ClassVar[str] = "sampa"
    title: ClassVar[str] = "sharpness-aware minimisation, parallelised"
    source: ClassVar[str] = "Xie, Pethick, Cevher 2024, SAMPa: Sharpness-aware Minimization Parallelized"
    rho: float = 0.1
    weight: float = 0.2

    def check(self) -> None:
        """See Optimizer."""
        super().check()
        self.within("weight", 0 <= self.weight <= 1, "from 0 to 1")

    def initial(self, params: Stack) -> State:
        """See Optimizer: v = 0; the gradients at y and above it are those of the first batch."""
        return {name: zeros(params) for name in ("velocity", "auxiliary", "above")}

    def step(self, params: Stack, state: State, gradient: Gradient, at: Step) -> tuple[Stack, State]:
        """See Optimizer: two gradients."""
        if at.number == 0:
            here = above = gradient(params)
        else:
            here = gradient(descent(params, state, state["auxiliary"], at)[0])
            above = state["above"]
        weight = at.constants["weight"]
        mixed = {name: torch.lerp(above[name], value, along(weight, value)) for name, value in here.items()}
        params, state = descent(params, state, mixed, at)
        reached = ascent(params, here, at.constants["rho"])
        return params, {**state, "auxiliary": here, "above": gradient(reached, clean=False)}
