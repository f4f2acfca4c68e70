"""What an optimizer does to a gradient, read from its groups and its state; nothing is written.

An update is theta <- theta - eta P^-1 m with the gradient's average m, the preconditioner P and the largest learning
rate eta of all groups. A group with a smaller rate has a larger P by the ratio of the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpbench.core.measure import NotApplicable
from sharpbench.core.precision import hold
from sharpbench.core.subject import Params
from sharpbench.errors import InvalidInput

KNOWN = ("Adam", "SGD", "RMSprop", "Adagrad")
"""The classes of torch.optim whose updates are known; AdamW is an Adam."""


@dataclass(frozen=True, slots=True, eq=False)
class OptimizerReader:
    """The optimizer of some parameters. names: parameter's id -> its name in the network."""

    optimizer: torch.optim.Optimizer
    names: Mapping[int, str]

    @staticmethod
    def of(optimizer: object, model: nn.Module) -> OptimizerReader:
        """The reader. Raises InvalidInput for what is not an optimizer, or holds no parameter of the model."""
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise InvalidInput(f"optimizer= is a {type(optimizer).__name__}; give a torch.optim.Optimizer or None")
        names = {id(value): name for name, value in model.named_parameters()}
        held = [value for group in optimizer.param_groups for value in group["params"]]
        if not any(id(value) in names for value in held):
            raise InvalidInput(
                f"the optimizer ({type(optimizer).__name__}) holds none of the model's {len(names)} parameters; "
                "give the one that trains this model"
            )
        return OptimizerReader(optimizer, names)

    @property
    def kind(self) -> str:
        """The name in KNOWN of its class. Raises NotApplicable for another one."""
        for cls in type(self.optimizer).__mro__:
            if cls.__module__.startswith("torch.optim") and cls.__name__ in KNOWN:
                if any(group.get("maximize") for group in self.optimizer.param_groups):
                    raise NotApplicable("the optimizer maximizes")
                return cls.__name__
        known = ", ".join((*KNOWN, "AdamW"))
        inner = isinstance(getattr(self.optimizer, "base", None), torch.optim.Optimizer)
        remedy = "; give the base optimizer, optimizer.base" if inner else ""
        raise NotApplicable(
            f"the updates of {type(self.optimizer).__name__} are not known, only those of {known}{remedy}"
        )

    @property
    def learning_rate(self) -> float:
        """eta, the largest learning rate of the groups."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    @property
    def bound(self) -> float:
        """The preconditioned sharpness above which the update is unstable on a quadratic with constant P.

        2 / eta without momentum, (2 + 2 beta) / (eta (1 - d)) with momentum beta and dampening d, that divided by
        1 + 2 beta with Nesterov's, and (2 + 2 beta_1) / (eta (1 - beta_1)) for Adam. Groups of different momentum are
        refused. Weight decay is not counted.

        Source: Cohen et al. 2021, appendix B; Cohen et al. 2022, equation 4.
        """
        kind, found = self.kind, set()
        for group in self.optimizer.param_groups:
            if kind == "Adam":
                beta = float(group["betas"][0])
                found.add((2 + 2 * beta) / (1 - beta))
            elif kind == "SGD":
                beta = float(group["momentum"])
                shift = 1 + 2 * beta if group["nesterov"] else 1.0
                found.add((2 + 2 * beta) / shift / (1 - float(group["dampening"]) if beta else 1.0))
            else:
                found.add(2 + 2 * float(group.get("momentum", 0.0)))
        if len(found) > 1:
            raise NotApplicable("the groups of parameters have different momentum")
        if not self.learning_rate > 0:
            raise NotApplicable(f"the learning rate is {self.learning_rate:g}")
        return found.pop() / self.learning_rate

    def _each(self) -> list[tuple[str, Tensor, dict[str, Any], dict[str, Any]]]:
        """Name, parameter, group and state of each parameter of the model."""
        return [
            (self.names[id(value)], value, group, self.optimizer.state.get(value, {}))
            for group in self.optimizer.param_groups
            for value in group["params"]
            if id(value) in self.names
        ]

    def inverse_preconditioner(self, params: Params) -> Params:
        """The diagonal of P^-1 by parameter, at the present state; 0 for parameters that the optimizer does not move.

        Adam: P = (1 - beta_1^t) (sqrt(v / (1 - beta_2^t)) + epsilon). Raises NotApplicable before the first step.
        """
        kind, eta = self.kind, self.learning_rate
        if not eta > 0:
            raise NotApplicable(f"the learning rate is {eta:g}")
        found = {name: torch.zeros_like(value) for name, value in params.items()}
        known = False
        for name, _, group, state in self._each():
            if name in found and (kind == "SGD" or state):
                known = True
                rate = float(group["lr"]) / eta
                found[name] = rate / _preconditioner(kind, group, state, found[name], int(state.get("step", 1)))
        if not known:
            raise NotApplicable("the optimizer has no state before its first step")
        return found

    def next_update(self, gradient: Params, params: Params) -> Params:
        """The direction d of the update theta - eta d that the optimizer would make next with this gradient.

        With its momentum, averages and weight decay; 0 for parameters that it does not move.
        """
        kind, eta = self.kind, self.learning_rate
        if not eta > 0:
            raise NotApplicable(f"the learning rate is {eta:g}")
        found = {name: torch.zeros_like(value) for name, value in params.items()}
        for name, _, group, state in self._each():
            if name in found:
                step = _direction(kind, group, state, gradient[name], params[name])
                found[name] = step * (float(group["lr"]) / eta)
        return found


def _preconditioner(kind: str, group: Mapping[str, Any], state: Mapping[str, Any], like: Tensor, step: int) -> Tensor:
    """P of a parameter whose state is that after `step` steps, without the learning rate."""
    if kind == "SGD":
        return torch.ones_like(like)
    epsilon = float(group["eps"])
    if kind == "Adam":
        first, second = (1 - float(beta) ** step for beta in group["betas"])
        squares = hold(state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"])
        return first * ((squares / second).sqrt() + epsilon)
    if kind == "RMSprop":
        squares = hold(state["square_avg"])
        if group["centered"]:
            squares = squares - hold(state["grad_avg"]).square()
        return squares.sqrt() + epsilon
    return (hold(state["sum"]).sqrt() + epsilon) * (1 + (step - 1) * float(group["lr_decay"]))


def _direction(
    kind: str, group: Mapping[str, Any], state: Mapping[str, Any], gradient: Tensor, value: Tensor
) -> Tensor:
    """The next update of one parameter, without the learning rate; a state that is missing is that of no step."""
    step, decay = int(state.get("step", 0)) + 1, float(group["weight_decay"])
    decoupled = kind == "Adam" and bool(group.get("decoupled_weight_decay"))
    if not decoupled:
        gradient = gradient + decay * value

    def kept(key: str) -> Tensor:
        held = state.get(key)
        return torch.zeros_like(gradient) if held is None else hold(held)

    if kind == "Adam":
        first, second = map(float, group["betas"])
        moved = {**state, "exp_avg_sq": second * kept("exp_avg_sq") + (1 - second) * gradient.square()}
        if group.get("amsgrad"):
            moved["max_exp_avg_sq"] = torch.maximum(kept("max_exp_avg_sq"), moved["exp_avg_sq"])
        average = first * kept("exp_avg") + (1 - first) * gradient
        update = average / _preconditioner(kind, group, moved, gradient, step)
        return update + decay * value if decoupled else update
    if kind == "RMSprop":
        alpha = float(group["alpha"])
        moved = {"square_avg": alpha * kept("square_avg") + (1 - alpha) * gradient.square()}
        if group["centered"]:
            moved["grad_avg"] = alpha * kept("grad_avg") + (1 - alpha) * gradient
        update = gradient / _preconditioner(kind, group, moved, gradient, step)
        return float(group["momentum"]) * kept("momentum_buffer") + update
    if kind == "Adagrad":
        moved = {"sum": kept("sum") + gradient.square()}
        return gradient / _preconditioner(kind, group, moved, gradient, step)
    momentum = float(group["momentum"])
    if momentum == 0:
        return gradient
    held = state.get("momentum_buffer")
    average = gradient if held is None else momentum * hold(held) + (1 - float(group["dampening"])) * gradient
    return gradient + momentum * average if group["nesterov"] else average


def finite_rate(reader: OptimizerReader | None) -> float | None:
    """eta where it is a finite number above 0."""
    rate = math.nan if reader is None else reader.learning_rate
    return rate if 0 < rate < math.inf else None
