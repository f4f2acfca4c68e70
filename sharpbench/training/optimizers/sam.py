"""SAM and its variants: SGD with the gradient at the end of an ascent step.

Norms are over all parameters of a network. The ascent follows the gradient of the loss without weight decay, which is
part of the step of SGD. Running statistics (batch norm) are those of the pass before the ascent. All fields of Sgd
apply; InvalidInput is raised for a field out of its bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sharpbench.optim import rules
from sharpbench.training.optimizers.optimizer import (
    Gradient,
    Stack,
    State,
    Step,
    add_scaled,
    expand_like,
    make_zeros,
    network_norms,
)
from sharpbench.training.optimizers.sgd import Sgd, sgd_step


class StackArithmetic:
    """rules.Arithmetic of stacks: each tensor is [m, ...], and constants have one value per network, [m]."""

    leading = 1

    def add_scaled(self, vector: rules.Vector, length: Tensor, direction: rules.Vector) -> list[Tensor]:
        """See rules.Arithmetic."""
        pairs = zip(vector, direction, strict=True)
        return [torch.addcmul(value, expand_like(length, value), along) for value, along in pairs]

    def interpolate(self, start: rules.Vector, end: rules.Vector, share: Tensor) -> list[Tensor]:
        """See rules.Arithmetic."""
        pairs = zip(start, end, strict=True)
        return [torch.lerp(value, other, expand_like(share, other)) for value, other in pairs]

    def shift(self, vector: rules.Vector, constant: Tensor) -> list[Tensor]:
        """See rules.Arithmetic."""
        return [value + expand_like(constant, value) for value in vector]


STACKS = StackArithmetic()


def name_like(stack: Stack, values: list[Tensor]) -> Stack:
    """The values by the names of `stack`, in its order."""
    return dict(zip(stack, values, strict=True))


def values_like(stack: Stack, values: Stack) -> list[Tensor]:
    """The tensors of `values` in the order of the names of `stack`."""
    return [values[name] for name in stack]


@dataclass(frozen=True)
class Sam(Sgd):
    """e = rho g / |g|_2 over all parameters; then SGD with the gradient at theta + e.

    Cost: two gradients per step.

    Attributes:
        rho: the length of the ascent step, at least 0.
    """

    name: ClassVar[str] = "sam"
    title: ClassVar[str] = "sharpness-aware minimisation"
    source: ClassVar[str] = (
        "Foret, Kleiner, Mobahi, Neyshabur 2021, Sharpness-Aware Minimization for Efficiently Improving "
        "Generalization, Algorithm 1"
    )
    rho: float = 0.05

    def check(self) -> None:
        """See Optimizer."""
        super().check()
        self.within("rho", self.rho >= 0, "at least 0")

    def step(self, params: Stack, state: State, gradient: Gradient, at: Step) -> tuple[Stack, State]:
        """See Optimizer: two gradients."""
        above = ascend(params, gradient(params), at.constants["rho"])
        return sgd_step(params, state, gradient(above, clean=False), at)


def ascend(params: Stack, directions: Stack, radius: Tensor) -> Stack:
    """The parameters moved by `radius` [m] along the directions, which are normalised per network."""
    return add_scaled(params, rules.ascent_length(radius, network_norms(directions)), directions)


@dataclass(frozen=True)
class MSam(Sam):
    """SAM with a separate ascent step for every micro-batch; the gradients are averaged.

    Each example has the same weight, so a smaller last micro-batch has a smaller weight. Cost: two gradients per step.

    Attributes:
        size: examples in a micro-batch, at least 1.
    """

    name: ClassVar[str] = "m-sam"
    title: ClassVar[str] = "sharpness-aware minimisation by micro-batches"
    source: ClassVar[str] = (
        "Foret et al. 2021, section 4.1 (m-sharpness); Behdin et al. 2023, mSAM: Micro-Batch-Averaged "
        "Sharpness-Aware Minimization"
    )
    size: int = 16

    def check(self) -> None:
        """See Optimizer."""
        super().check()
        self.within("size", self.size >= 1, "at least 1")

    def smallest_part(self, batch: int) -> int:
        """See Optimizer: the last micro-batch."""
        return batch % self.size or min(self.size, batch)

    def step(self, params: Stack, state: State, gradient: Gradient, at: Step) -> tuple[Stack, State]:
        """See Optimizer: two gradients of each micro-batch."""
        mean = {name: torch.zeros_like(value) for name, value in params.items()}
        for start in range(0, gradient.size, self.size):
            part = slice(start, min(start + self.size, gradient.size))
            above = ascend(params, gradient(params, part=part), at.constants["rho"])
            share = (part.stop - part.start) / gradient.size
            gradients = gradient(above, part=part, clean=False)
            mean = {name: value + share * gradients[name] for name, value in mean.items()}
        return sgd_step(params, state, mean, at)


@dataclass(frozen=True)
class Asam(Sgd):
    """e = rho T^2 g / |T g|_2 with T = |theta| + eta by entry, or the norm of each filter + eta.

    T is 1 for parameters without "weight" in their name, as in the authors' code, unless `biases`: the weights of norms
    are normalised, biases and embeddings of positions are not. Only convolutions have filters; the weights of other
    layers are always normalised by entry. Cost: two gradients per step.

    Attributes:
        rho: the length of the normalised ascent step, at least 0.
        eta: the term that is added to |theta|, at least 0.
        normalization: "element" (by entry) or "filter".
        biases: also normalise the other parameters.
    """

    name: ClassVar[str] = "asam"
    title: ClassVar[str] = "adaptive sharpness-aware minimisation"
    source: ClassVar[str] = (
        "Kwon, Kim, Park, Choi 2021, ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of "
        "Deep Neural Networks"
    )
    rho: float = 0.5
    eta: float = 0.01
    normalization: Literal["element", "filter"] = "element"
    biases: bool = False

    def check(self) -> None:
        """See Optimizer."""
        super().check()
        self.within("rho", self.rho >= 0, "at least 0")
        self.within("eta", self.eta >= 0, "at least 0")

    def step(self, params: Stack, state: State, gradient: Gradient, at: Step) -> tuple[Stack, State]:
        """See Optimizer: two gradients."""
        directions, scaled = rules.adaptive_direction(
            STACKS,
            list(params.values()),
            values_like(params, gradient(params)),
            at.constants["eta"],
            normalized=[self.biases or rules.NORMALIZED_NAME in name for name in params],
            filters=self.normalization == "filter",
        )
        length = rules.ascent_length(at.constants["rho"], network_norms(name_like(params, scaled)))
        above = add_scaled(params, length, name_like(params, directions))
        return sgd_step(params, state, gradient(above, clean=False), at)


@dataclass(frozen=True)
class FriendlySam(Sam):
    """SAM whose ascent direction is g - sigma m, m the moving average of gradients.

    m is the average of earlier steps. It is 0 in the first step, which is therefore SAM's; afterwards it is the first
    g, then m <- smoothing m + (1 - smoothing) g. With sigma = 1 the direction does not depend on whether g enters m
    before the ascent or after it: g - m only changes its length. Cost: two gradients per step.

    Attributes:
        sigma: the share of m that is subtracted, at least 0.
        smoothing: the decay of the moving average, from 0 to below 1.
    """

    name: ClassVar[str] = "f-sam"
    title: ClassVar[str] = "friendly sharpness-aware minimisation"
    source: ClassVar[str] = "Li, Zhou, He, Cheng, Huang 2024, Friendly Sharpness-Aware Minimization"
    rho: float = 0.2
    sigma: float = 1.0
    smoothing: float = 0.9

    def check(self) -> None:
        """See Optimizer."""
        super().check()
        self.within("sigma", self.sigma >= 0, "at least 0")
        self.within("smoothing", 0 <= self.smoothing < 1, "from 0 to below 1")

    def initial(self, params: Stack) -> State:
        """See Optimizer: v = 0, m = 0."""
        state = super().initial(params)
        return {**state, "mean": state["velocity"]}

    def step(self, params: Stack, state: State, gradient: Gradient, at: Step) -> tuple[Stack, State]:
        """See Optimizer: two gradients."""
        gradients, mean = gradient(params), state["mean"]
        listed, means = values_like(params, gradients), values_like(params, mean)
        directions = rules.friendly_direction(STACKS, listed, means, -at.constants["sigma"])
        above = ascend(params, name_like(params, directions), at.constants["rho"])
        if at.number == 0:
            mean = gradients
        else:
            share = 1 - at.constants["smoothing"]
            mean = name_like(params, rules.friendly_mean(STACKS, listed, means, share))
        return sgd_step(params, {**state, "mean": mean}, gradient(above, clean=False), at)


@dataclass(frozen=True)
class SamPa(Sam):
    """SAM whose ascent follows the gradient at an auxiliary point y, so that both gradients can run in parallel.

    above_t = theta_t + rho g(y_t) / |g(y_t)|; y_(t+1) = theta_t - rate g(y_t);
    theta_(t+1) = theta_t - rate ((1 - weight) g(above_t) + weight g(y_(t+1))). The first batch is a step of SGD from
    theta_0, which leads to theta_1 and y_1.

    As in the authors' code, both steps have momentum and weight decay; g(above_t) uses the batch of y_t, and
    g(y_(t+1)) the next batch. Here each batch gives the second gradient of one step and then the first of the next,
    with the same parameters as a result. The loss of a batch and running statistics (batch norm) are those at y.
    Cost: two gradients per step.

    Attributes:
        weight: the share of the gradient at y, from 0 to 1.
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
        """See Optimizer: all 0; the first batch sets the gradients at y and above."""
        return {name: make_zeros(params) for name in ("velocity", "auxiliary", "above")}

    def step(self, params: Stack, state: State, gradient: Gradient, at: Step) -> tuple[Stack, State]:
        """See Optimizer: two gradients."""
        if at.number == 0:
            here = above = gradient(params)
        else:
            here = gradient(sgd_step(params, state, state["auxiliary"], at)[0])
            above = state["above"]
        pair = values_like(params, above), values_like(params, here)
        mixed = name_like(params, rules.parallel_gradient(STACKS, *pair, at.constants["weight"]))
        params, state = sgd_step(params, state, mixed, at)
        reached = ascend(params, here, at.constants["rho"])
        return params, {**state, "auxiliary": here, "above": gradient(reached, clean=False)}
