"""Optimizer: the contract of an optimiser by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from sharpbench.core.fields import check_fields
from sharpbench.errors import InvalidInput

# Stack: the parameters of m networks of one architecture, by name, each tensor [m, ...]; and arithmetic on it.

Stack = dict[str, Tensor]
"""A tensor [m, ...] by name."""
MIN_NORM = 1e-12
"""The least norm that a direction is divided by: a gradient of zeros gives no ascent, and no NaN."""


def expand_like(values: Tensor, like: Tensor) -> Tensor:
    """One value a network, [m], shaped so that it multiplies `like` [m, ...]."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def network_norms(stack: Mapping[str, Tensor]) -> Tensor:
    """Each network's Euclidean norm over all its tensors, [m]."""
    parts = [torch.linalg.vector_norm(value.reshape(len(value), -1), dim=1) for value in stack.values()]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    return whole


def add_scaled(stack: Stack, lengths: Tensor, directions: Stack) -> Stack:
    """stack + lengths [m] directions."""
    return {name: torch.addcmul(value, expand_like(lengths, value), directions[name]) for name, value in stack.items()}


def make_zeros(stack: Stack) -> Stack:
    """As many zeros."""
    return {name: torch.zeros_like(value) for name, value in stack.items()}


State = dict[str, Stack]
"""What an optimiser remembers from step to step, by name: each a stack with exactly the names of the parameters."""


class Gradient(Protocol):
    """Each network's gradient of its own mean loss on its own batch.

    size: examples in the batch of one network.
    """

    size: int

    def __call__(self, params: Stack, *, part: slice | None = None, clean: bool = True) -> Stack:
        """The gradient at `params`, on all examples of the batch or on a part of them.

        clean: at the weights themselves, and not where an ascent ended: the loss counts in the mean of the epoch,
        and running statistics (batch norm) are kept. Exactly one clean pass a step covers each example.
        """


@dataclass(frozen=True, slots=True)
class Step:
    """Where a step is taken. Each tensor is [m], one value a network, in the dtype of the parameters.

    number: of the step, from 0, the same for all networks. constants: the optimiser's fields that are numbers.
    """

    number: int
    rate: Tensor
    weight_decay: Tensor
    constants: Mapping[str, Tensor]


@dataclass(frozen=True)
class Optimizer(ABC):
    """An optimiser as a frozen value, `name[field=value]`. Rate, its schedule and weight decay are the recipe's.

    Rules are functions of stacks: m networks take the step together and none sees another. Fields that are floats
    may differ between the networks of a stack and are read from `Step.constants`; the others, its `choices`, are
    the same for all.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]

    def __post_init__(self) -> None:
        check_fields(self, kind="optimizer")
        self.check()

    def check(self) -> None:  # noqa: B027  # most have bounds, none must
        """Raises InvalidInput for fields out of their bounds."""

    def within(self, name: str, holds: bool, bound: str) -> None:
        """Raises InvalidInput unless what is asked of the field `name` holds."""
        if not holds:
            raise InvalidInput(f"optimizer '{self.name}': {name}={getattr(self, name)} must be {bound}")

    @abstractmethod
    def initial(self, params: Stack) -> State:
        """What it remembers before the first step."""

    @abstractmethod
    def step(self, params: Stack, state: State, gradient: Gradient, at: Step) -> tuple[Stack, State]:
        """Parameters and state after one step. Nothing that is given is written to."""

    def choices(self) -> tuple[object, ...]:
        """What must be equal for networks to take steps together: the rule, and its fields that are no floats."""
        return (type(self), *(getattr(self, item.name) for item in fields(self) if not _is_float(item.type)))


def stack_constants(optimizers: Sequence[Optimizer], like: Tensor) -> dict[str, Tensor]:
    """The float fields of optimisers with equal choices, each [m], with the dtype and device of `like`."""
    names = [item.name for item in fields(optimizers[0]) if _is_float(item.type)]
    return {
        name: torch.tensor([getattr(each, name) for each in optimizers], dtype=like.dtype, device=like.device)
        for name in names
    }


def _is_float(annotation: object) -> bool:
    return annotation in ("float", float)
