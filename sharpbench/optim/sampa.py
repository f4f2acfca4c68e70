"""SAMPa for one's own loop: the ascent follows the gradient at an auxiliary point."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from sharpbench.optim import rules
from sharpbench.optim.options import check_option
from sharpbench.optim.parts import NUMBERS, Group, Part, Snapshot, collect_parts, put_gradients
from sharpbench.optim.rules import Vector
from sharpbench.optim.sharpness_aware import Closure, SharpnessAware, unscale_gradients


class SAMPa(SharpnessAware):
    """SAM whose ascent follows the gradient at an auxiliary point y, so that both gradients could run in parallel.

    y is where the base optimiser would go from theta with the last g(y). The step has (1 - weight) g(above) + weight
    g(y), with g(above) of the batch before; then above = theta + rho g(y) / |g(y)| is evaluated on this batch. The
    first batch is a step of the base optimiser. Here both gradients run one after the other. The base optimiser
    receives dense gradients.

    In closures: `step(closure)`; the loss is that at y. In three steps: `lookahead()`, backward, `first_step()`,
    backward, `second_step()`. Cost: two gradients and two steps of the base optimiser per step, two copies of its
    state, and two gradients as state.

    Args:
        base: the optimiser that takes the steps.
        model: the network, in its wrapper where it has one; None for parameters without a network.
        rho: the length of the ascent, at least 0. A group may have its own, as of `weight`.
        weight: the share of the gradient at y, from 0 to 1: lambda in the paper.

    Raises:
        InvalidInput: as SharpnessAware.

    Source: Xie, Pethick, Cevher 2024, Algorithm 1, with momentum and weight decay as in the authors' code.

    >>> import torch
    >>> from sharpbench.optim import SAMPa
    >>> theta = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = SAMPa(torch.optim.SGD([theta], lr=0.1), None, rho=0.5)
    >>> def closure():
    ...     loss = (theta * torch.tensor([1.0, 2.0])).square().sum() / 2
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(2):
    ...     loss = optimizer.step(closure)
    >>> theta
    tensor([2.4286, 1.4107], requires_grad=True)
    """

    def __init__(
        self, base: torch.optim.Optimizer, model: nn.Module | None, *, rho: float = 0.1, weight: float = 0.2
    ) -> None:
        super().__init__(base, model, {"rho": rho, "weight": weight})

    def check_group(self, group: Group) -> None:
        """See SharpnessAware."""
        check_option(self, group, "rho")
        check_option(self, group, "weight", most=1.0)

    def direction(self, part: Part) -> tuple[Vector, Vector]:
        """See SharpnessAware: the gradient at y."""
        return part.gradients, part.gradients

    def _reset(self) -> None:
        super()._reset()
        self._before: Snapshot | None = None
        self._base_before: _BaseState | None = None

    @torch.no_grad()
    def lookahead(self) -> None:
        """Moves the weights to y, for the first backward() of a step."""
        self._withdraw_if(self._phase in ("ahead", "above"), "lookahead() was called within a step; call second_step()")
        self._reset()
        owners = [owner for group in self.param_groups for owner in group["params"]]
        self._before = Snapshot(owners)
        known = [owner for owner in owners if "auxiliary" in self.state.get(owner, {})]
        if known:
            self.zero_grad()
            put_gradients(known, [self.state[owner]["auxiliary"].clone() for owner in known])
            state = _BaseState(self.base)
            self.base.step()
            state.restore()
        self.zero_grad()
        torch.clear_autocast_cache()
        self._phase = "ahead"

    def step(self, closure: Closure | None = None, *, scaler: GradScaler | None = None) -> Any:
        """See SharpnessAware; the loss is that at y."""
        if closure is None:
            return self._descend(self)
        self.lookahead()
        try:
            loss = self._evaluate(closure)
            self.first_step(scaler=scaler)
            self._evaluate(closure)
        except BaseException:
            self._withdraw()
            raise
        self._finish(scaler)
        return loss

    @torch.no_grad()
    def _ascend(self, scaler: GradScaler | None) -> None:
        self._withdraw_if(self._phase != "ahead", "call lookahead() before backward() and first_step()")
        assert self._before is not None
        self._check_gradients(scaler)
        self._parts = collect_parts(self.param_groups)
        self._withdraw_if(not self._parts, "no parameter has a gradient; call backward() before first_step()")
        for part in self._parts:
            part.gradients[:] = [gradient.clone() for gradient in part.gradients]
        self._before.restore()
        if self._finite:
            for part in self._parts:
                earlier = [self.state[owner].get("above") for owner in part.owners]
                above = [here if one is None else one for one, here in zip(earlier, part.gradients, strict=True)]
                mixed = rules.parallel_gradient(NUMBERS, above, part.gradients, part.group["weight"])
                put_gradients(part.owners, mixed)
            self._base_before = _BaseState(self.base)
            self.base.step()
        self._saved = Snapshot([owner for part in self._parts for owner in part.owners], self.model)
        self._phase = "above"
        if self._finite:
            self._move()

    def restore(self) -> None:
        """Undoes a step that is not finished: weights and base optimiser are as before `lookahead()`."""
        if self._phase in ("ahead", "above"):
            self._withdraw()

    def _withdraw(self) -> None:
        buffers, before, base_before = self._saved, self._before, self._base_before
        if buffers is not None:
            buffers.restore()
        if base_before is not None:
            base_before.restore()
        if before is not None:
            before.restore()
        self._reset()

    @torch.no_grad()
    def _descend(self, scaling: object) -> None:
        scale, overflow = getattr(scaling, "grad_scale", None), getattr(scaling, "found_inf", None)
        self._check_descent(("above",), overflow)
        if overflow is not None and (bool(overflow) or not self._finite):
            self._withdraw()
            return
        self._write_back()
        if scale is not None:
            unscale_gradients(self.param_groups, scale)
        here = {owner: value for part in self._parts for owner, value in zip(part.owners, part.gradients, strict=True)}
        for part in collect_parts(self.param_groups):
            for owner, above in zip(part.owners, part.gradients, strict=True):
                if owner in here:
                    self.state[owner].update(auxiliary=here[owner], above=above.clone())
        self._reset()


class _BaseState:
    """A copy of what an optimiser remembers: its state and the options of its groups."""

    def __init__(self, base: torch.optim.Optimizer) -> None:
        self._base = base
        self._state = {owner: _copy_values(values) for owner, values in base.state.items()}
        self._groups = [_copy_values(group) for group in base.param_groups]

    @torch.no_grad()
    def restore(self) -> None:
        """Writes the values back, into the same tensors."""
        for owner in list(self._base.state):
            if owner in self._state:
                _restore_values(self._base.state[owner], self._state[owner])
            else:
                del self._base.state[owner]
        for group, values in zip(self._base.param_groups, self._groups, strict=True):
            _restore_values(group, values)


def _copy_values(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)
        for name, value in values.items()
        if name not in ("params", "param_names")
    }


def _restore_values(values: dict[str, Any], saved: dict[str, Any]) -> None:
    for name in list(values):
        if name in ("params", "param_names"):
            continue
        if name not in saved:
            del values[name]
        elif isinstance(values[name], Tensor) and isinstance(saved[name], Tensor):
            values[name].copy_(saved[name])
        else:
            values[name] = saved[name]
