"""Optimizer: the contract of an update rule that is chosen by name; and arithmetic on stacks of parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from sharpbench.core.fields import check_fields
from sharpbench.errors import InvalidInput

Stack = dict[str, Tensor]
"""The parameters of m networks of one architecture by name, each tensor [m, ...]."""


def expand_like(values: Tensor, like: Tensor) -> Tensor:
    """One value per network, [m], reshaped so that it multiplies `like` [m, ...]."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def network_norms(stack: Mapping[str, Tensor]) -> Tensor:
    """Each network's Euclidean norm over all its tensors, [m]."""
    parts = [torch.linalg.vector_norm(value.reshape(len(value), -1), dim=1) for value in stack.values()]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    return whole


def add_scaled(stack: Stack, lengths: Tensor, directions: Stack) -> Stack:
    """stack + lengths directions, with one length per network, [m]."""
    return {name: torch.addcmul(value, expand_like(lengths, value), directions[name]) for name, value in stack.items()}


def make_zeros(stack: Stack) -> Stack:
    """A stack of zeros with the shapes of `stack`."""
    return {name: torch.zeros_like(value) for name, value in stack.items()}


State = dict[str, Stack]
"""What an optimiser remembers between steps, by name; each stack has exactly the names of the parameters."""


class Gradient(Protocol):
    """Each network's gradient of its own mean loss on its own batch.

    Attributes:
        size: examples in the batch of one network.
    """

    size: int

    def __call__(self, params: Stack, *, part: slice | None = None, clean: bool = True) -> Stack:
        """The gradient at `params`, a stack like `params`.

        Args:
            params: the parameters of the m networks, each [m, ...].
            part: the examples of the batch to use; None uses all.
            clean: True at the weights themselves, False at weights that an ascent reached. The loss of a clean pass
                counts in the mean of the epoch, and its running statistics (batch norm) are kept. In each step every
                example must be in exactly one clean pass.
        """


@dataclass(frozen=True, slots=True)
class Step:
    """The constants of one step. Each tensor is [m], one value per network, in the dtype of the parameters.

    Attributes:
        number: the index of the step, from 0, the same for all networks.
        rate: the learning rate at this step.
        weight_decay: the recipe's weight decay.
        constants: the float fields of the optimiser, by name.
    """

    number: int
    rate: Tensor
    weight_decay: Tensor
    constants: Mapping[str, Tensor]


@dataclass(frozen=True)
class Optimizer(ABC):
    """An update rule: a frozen value whose fields are its options, written `name[field=value]` on the command line.

    The learning rate, its schedule and the weight decay belong to the recipe. A rule is a function of stacks: m
    networks take a step together and do not influence each other. Float fields may differ between the networks of a
    stack, so a rule reads them from `Step.constants`. The other fields are equal for all networks of a stack.

    To add an optimiser, subclass Optimizer as a frozen dataclass in a module of `sharpbench/training/optimizers/`, set
    the class variables, implement `initial` and `step`, and append the class to OPTIMIZERS in the `__init__.py` of
    that package. `tests/training/test_trainer.py` and `optimizers/test_optimizers.py` next to it test every class of
    OPTIMIZERS; a test of the paper's equations belongs in `optimizers/test_rules.py`. In a plugin, list the class in
    the plugin module's OPTIMIZERS instead.

    Attributes:
        name: the name on the command line: lower-case letters, digits and hyphens.
        title: one line for `sharpbench list`.
        source: the paper.

    >>> from dataclasses import dataclass
    >>> import torch
    >>> from sharpbench import Optimizer
    >>> from sharpbench.training.optimizers import Gradient, Stack, State, Step, expand_like
    >>> @dataclass(frozen=True)
    ... class SignSgd(Optimizer):
    ...     name = "sign-sgd"
    ...     title = "descent along the sign of the gradient"
    ...     source = "Bernstein, Wang, Azizzadenesheli, Anandkumar 2018, signSGD"
    ...
    ...     def initial(self, params: Stack) -> State:
    ...         return {}
    ...
    ...     def step(self, params: Stack, state: State, gradient: Gradient, at: Step) -> tuple[Stack, State]:
    ...         gradients = gradient(params)
    ...         steps = {name: expand_like(at.rate, value) * value.sign() for name, value in gradients.items()}
    ...         return {name: value - steps[name] for name, value in params.items()}, state
    >>> at = Step(number=0, rate=torch.tensor([0.5, 1.0]), weight_decay=torch.zeros(2), constants={})
    >>> SignSgd().step({"w": torch.zeros(2, 1)}, {}, lambda params: {"w": torch.tensor([[3.0], [-2.0]])}, at)[0]
    {'w': tensor([[-0.5000],
            [ 1.0000]])}
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]

    def __post_init__(self) -> None:
        check_fields(self, kind="optimizer")
        self.check()

    def check(self) -> None:  # noqa: B027  # most have bounds, none must
        """Raise InvalidInput for a field out of its bounds; override it with calls of `within`."""

    def within(self, name: str, holds: bool, bound: str) -> None:
        """Raise InvalidInput, which states that field `name` must be `bound`, unless `holds`."""
        if not holds:
            raise InvalidInput(f"optimizer '{self.name}': {name}={getattr(self, name)} must be {bound}")

    @abstractmethod
    def initial(self, params: Stack) -> State:
        """What the optimiser remembers before the first step.

        Args:
            params: the parameters of m networks, each [m, ...].

        Returns:
            Stacks by name, each with exactly the names and shapes of `params`; {} if the rule remembers nothing.
        """

    @abstractmethod
    def step(self, params: Stack, state: State, gradient: Gradient, at: Step) -> tuple[Stack, State]:
        """Parameters and state after one step. It must not write to its arguments.

        Args:
            params: the parameters of m networks, each [m, ...].
            state: as `initial` or the last step returned it.
            gradient: the gradient of the batch at parameters of your choice; each call costs one gradient.
            at: the learning rate and constants of this step.
        """

    def smallest_part(self, batch: int) -> int:
        """The fewest examples that `step` takes a gradient of at once, where the batch holds `batch`."""
        return batch

    def choices(self) -> tuple[object, ...]:
        """What must be equal for networks to take steps together: the class, and the fields that are not floats."""
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
