"""Checks of the base optimiser, and of the options that a group of parameters has."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from sharpbench.errors import InvalidInput
from sharpbench.optim.parts import Group


def check_option(
    optimizer: object, group: Group, name: str, *, most: float = float("inf"), below: float = float("inf")
) -> None:
    """Checks that an option of a group is a finite number from 0 to its bound.

    Args:
        optimizer: the optimiser, whose class the message names.
        group: the entry of `param_groups`.
        name: the option.
        most: the largest value that is allowed.
        below: a bound that the value must be below.

    Raises:
        InvalidInput: for another value.
    """
    value = group[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= most or not value < below:
        bound = f"from 0 to {most:g}" if most < float("inf") else f"from 0 to below {below:g}"
        needed = "at least 0 and finite" if most == below else bound
        raise InvalidInput(f"{type(optimizer).__name__}: {name}={value!r} must be a number, {needed}")


def check_choice(optimizer: object, group: Group, name: str, choices: Sequence[str]) -> None:
    """Checks that an option of a group is one of the words in `choices`; raises InvalidInput for another value."""
    if group[name] not in choices:
        raise InvalidInput(f"{type(optimizer).__name__}: {name}={group[name]!r} is none of {', '.join(choices)}")


def check_base(base: torch.optim.Optimizer, options: Mapping[str, object]) -> None:
    """Raises InvalidInput for a base optimiser that cannot take the steps of a rule with these options."""
    name = type(base).__name__
    if not isinstance(base, torch.optim.Optimizer) or hasattr(base, "first_step"):
        raise InvalidInput(f"base={name} must be an optimiser without an ascent, such as torch.optim.SGD(parameters)")
    closure = inspect.signature(base.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise InvalidInput(f"base={name} calls its closure itself, several times a step; choose one that does not")
    if taken := sorted(set(options) & set(base.defaults)):
        raise InvalidInput(f"base={name} has an option '{taken[0]}' already, in another meaning; choose another base")


def check_local(model: nn.Module | None, synchronize: bool) -> None:
    """Raises InvalidInput where the gradients of several processes cannot be kept apart."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not synchronize and several and torch.distributed.get_world_size() > 1 and not hasattr(model, "no_sync"):
        raise InvalidInput("synchronize=False needs the network in DistributedDataParallel as `model`")
