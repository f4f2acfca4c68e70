"""SharpnessAware: what the optimisers with an ascent step share, in closures and in two steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from sharpbench.core.wrappers import unwrap_module
from sharpbench.errors import InvalidInput
from sharpbench.optim.options import check_base, check_local
from sharpbench.optim.parts import Group, Part, Snapshot, collect_parts, global_norm
from sharpbench.optim.rules import Vector, ascent_length

Closure = Callable[[], Any]
"""Computes the loss, calls backward() and returns the loss."""
Phase = Literal["ready", "ahead", "above", "accumulated", "restored"]
"""Between steps; SAMPa's weights at y; at the end of an ascent; m-SAM between micro-batches; after `restore`."""


class SharpnessAware(torch.optim.Optimizer, ABC):
    """A torch.optim.Optimizer that gives a base optimiser the gradient at the end of an ascent step.

    The groups of parameters are those of the base optimiser, with the options of the rule as further keys, so
    schedulers of the learning rate and `add_param_group` work on both. Norms are over all parameters of all groups.

    In closures: `step(closure)` calls the closure at the weights and at the end of the ascent. In two steps: backward,
    `first_step()`, backward, `step()` or `second_step()`. Weights and buffers (running statistics) are written back bit
    by bit: the second pass leaves no trace in them, and neither does an exception in a closure.

    Cost: two passes per step, a copy of the weights and buffers between them, and the base optimiser's step.

    Args:
        base: the optimiser that takes the steps.
        model: the network, in its wrapper where it has one (DistributedDataParallel, torch.compile); None for
            parameters without a network.
        options: the options of the rule, the default of each group that does not state its own.
        synchronize: with False each process ascends along its own batch's gradient.

    Raises:
        InvalidInput: for a base optimiser that calls closures itself, an option out of its bounds, or a sharded
            network.
    """

    _step_supports_amp_scaling = True
    """GradScaler.step calls step() also where gradients are not finite, so that it can write the weights back."""

    def __init__(
        self,
        base: torch.optim.Optimizer,
        model: nn.Module | None,
        options: Mapping[str, object],
        *,
        synchronize: bool = True,
    ) -> None:
        check_base(base, options)
        if model is not None:
            unwrap_module(model)
        check_local(model, synchronize)
        self.base, self.model, self.synchronize = base, model, synchronize
        self._checks: list[_Check] = []
        self._options = dict(options)
        self._reset()
        super().__init__(base.param_groups, dict(options))
        self.param_groups = base.param_groups
        self.defaults = {**base.defaults, **options}
        for group in self.param_groups:
            self._check_group(group)

    def _reset(self) -> None:
        """Between two steps."""
        self._phase: Phase = "ready"
        self._saved: Snapshot | None = None
        self._parts: list[Part] = []
        self._finite = True
        self._scaled = False

    @abstractmethod
    def check_group(self, group: Group) -> None:
        """Raises InvalidInput for an option of the rule out of its bounds."""

    @abstractmethod
    def direction(self, part: Part) -> tuple[Vector, Vector]:
        """The ascent direction of these parameters, and what its norm is taken of."""

    def finish_gradient(self) -> None:
        """Makes the gradients at the end of the ascent those of the step; most rules take them as they are."""

    def commit_state(self) -> None:
        """Stores what the rule remembers of a step that is taken; most rules remember nothing."""

    def first_step(self, *, zero_grad: bool = True, scaler: GradScaler | None = None) -> None:
        """Moves the weights along the ascent of the gradients that backward() left.

        Args:
            zero_grad: remove those gradients, so that the second pass does not add to them.
            scaler: the GradScaler of the loss, where there is one. Do not call its `unscale_` before.

        Raises:
            InvalidInput: if there is no gradient, or the weights are at the end of an ascent already.
        """
        self._withdraw_if(self._phase == "above", "first_step() was called twice; call second_step() or restore()")
        if self._phase == "ready":
            self._checks.clear()  # until now the scaler knew them by their ids
        elif self._phase == "restored":
            self._reset()
        self._ascend(scaler)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def _ascend(self, scaler: GradScaler | None) -> None:
        self._check_gradients(scaler)
        self._parts = collect_parts(self.param_groups)
        if not self._parts:
            raise InvalidInput(f"{self._name}: no parameter has a gradient; call backward() before first_step()")
        self._saved = Snapshot([owner for part in self._parts for owner in part.owners], self.model)
        self._phase = "above"
        if self._finite:
            self._move()

    def _move(self) -> None:
        directions = [self.direction(part) for part in self._parts]
        norm = global_norm([measured for _, measured in directions])
        for part, (along, _) in zip(self._parts, directions, strict=True):
            length = ascent_length(part.group["rho"], norm).to(part.weights[0].device)
            torch._foreach_add_(part.weights, torch._foreach_mul(along, length))
        torch.clear_autocast_cache()  # it holds casts of the weights as they were

    def _check_gradients(self, scaler: GradScaler | None) -> None:
        """Unscales gradients, and finds with the scaler whether all are finite, in all processes."""
        if scaler is None or not scaler.is_enabled():
            self._withdraw_if(self._scaled, "first_step() had a scaler before; give it in each micro-batch")
            return
        if scaler._per_optimizer_states[id(self)]["stage"].name != "READY":
            raise InvalidInput(
                f"{self._name}: scaler.unscale_() was called before first_step(); remove the call, because first_step("
                "scaler=scaler) unscales its own gradients"
            )
        parts = collect_parts(self.param_groups)
        if not self.synchronize and torch.distributed.is_initialized():
            _share_overflow(parts, getattr(self.model, "process_group", None))
        check = _Check(self)
        scaler.unscale_(check)  # type: ignore[arg-type]  # as documented it reads `param_groups` only
        self._checks.append(check)  # the scaler knows it by its id until update()
        finite = bool(global_norm([part.gradients for part in parts]).isfinite()) if parts else True
        self._finite, self._scaled = self._finite and finite, True

    def restore(self) -> None:
        """Writes weights and buffers back, and leaves the gradient of the step in `grad`, for clipping or as an undo.

        Nothing happens where the weights are not at the end of an ascent. `step()` may follow.
        """
        if self._phase == "above":
            self._write_back()
            with torch.no_grad():
                self.finish_gradient()
            self._phase = "restored"

    def second_step(self, *, zero_grad: bool = True, scaler: GradScaler | None = None) -> None:
        """`step()` after `first_step()`, through the scaler where there is one; then removes the gradients."""
        if scaler is not None and scaler.is_enabled():
            scaler.step(self)
        else:
            self.step()
        if zero_grad:
            self.zero_grad()

    def step(self, closure: Closure | None = None, *, scaler: GradScaler | None = None) -> Any:
        """One step.

        Args:
            closure: computes the loss, calls backward() and returns the loss; it is called twice. Gradients are
                removed before each call. None: the second of two steps.
            scaler: the GradScaler that the closure scales the loss with; call its `update()` afterwards.

        Returns:
            What the closure returned at the weights, before the ascent; None without a closure.

        Raises:
            InvalidInput: without a closure, if `first_step()` was not called.
        """
        if closure is None:
            return self._descend(self)
        loss = self._evaluate(closure, local=not self.synchronize)
        self.first_step(scaler=scaler)
        try:
            self._evaluate(closure)
        except BaseException:
            self._withdraw()
            raise
        self._finish(scaler)
        return loss

    def _finish(self, scaler: GradScaler | None) -> None:
        if scaler is not None and scaler.is_enabled():
            scaler.step(_Check(self))  # type: ignore[arg-type]  # step() itself would call the hooks twice
        else:
            self._descend(self)

    def _evaluate(self, closure: Closure, *, local: bool = False) -> Any:
        self.zero_grad()
        silent: Callable[[], AbstractContextManager[None]] = getattr(self.model, "no_sync", nullcontext)
        with torch.enable_grad(), silent() if local else nullcontext():
            return closure()

    @torch.no_grad()
    def _descend(self, scaling: object) -> None:
        """The second half; `scaling` has what GradScaler gives with a step: grad_scale and found_inf."""
        scale, overflow = getattr(scaling, "grad_scale", None), getattr(scaling, "found_inf", None)
        self._check_descent(("above", "restored"), overflow)
        early = self._phase == "above" and overflow is not None and scale is None
        self._withdraw_if(
            early and type(self).finish_gradient is not SharpnessAware.finish_gradient,
            "call restore() before scaler.unscale_(optimizer), because the gradient of the step is made there",
        )
        self.restore()
        if overflow is not None and (bool(overflow) or not self._finite):
            self._reset()
            return
        if scale is not None:
            unscale_gradients(self.param_groups, scale)
        self.commit_state()
        self._reset()
        self.base.step()

    def _check_descent(self, phases: tuple[Phase, ...], overflow: object) -> None:
        """Refuses a second half out of turn, and one whose scaler is not that of the first half."""
        if self._phase not in phases:
            self._withdraw()
            raise InvalidInput(f"{self._name}.step() needs a closure, or backward() and first_step() before it")
        self._withdraw_if(
            self._scaled != (overflow is not None),
            "first_step() had a scaler; call scaler.step(optimizer) in place of optimizer.step()"
            if self._scaled
            else "scaler.step(optimizer) needs first_step(scaler=scaler) before it",
        )

    def _write_back(self) -> None:
        assert self._saved is not None
        self._saved.restore()
        self._saved = None

    def _withdraw(self) -> None:
        """Undoes an ascent: the weights and what the rule remembers are those before it."""
        if self._saved is not None:
            self._write_back()
        self._reset()

    def _withdraw_if(self, wrong: bool, reason: str) -> None:
        if wrong:
            self._withdraw()
            raise InvalidInput(f"{self._name}: {reason}")

    def _check_group(self, group: Group) -> None:
        if group.get("maximize"):
            raise InvalidInput(f"{self._name}: the ascent is of a loss; negate the loss in place of maximize=True")
        self.check_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, param_group: Group) -> None:
        """See torch.optim.Optimizer; the group may have options of the rule."""
        if not any(param_group is group for group in self.base.param_groups):
            self.base.add_param_group(param_group)
            group = self.base.param_groups[-1]
            for name, value in self._options.items():
                group.setdefault(name, value)
            try:
                self._check_group(group)
            except InvalidInput:
                self.base.param_groups.remove(group)
                raise
        else:  # one that the base optimiser has: in the constructor
            super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """That of the rule, with that of the base optimiser as `base`.

        Raises InvalidInput at the end of an ascent, where the weights of the network are not those to store.
        """
        if self._phase in ("above", "ahead"):
            raise InvalidInput(f"{self._name}: state_dict() within a step; call step() or restore() before it")
        return {**super().state_dict(), "base": self.base.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What `state_dict` returned, for the same groups of parameters."""
        if "base" not in state_dict:
            raise InvalidInput(
                f"{self._name}: the state has no key 'base'; load the state of another optimiser by "
                "optimizer.base.load_state_dict()"
            )
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "base"})
        self.base.load_state_dict(state_dict["base"])
        self.param_groups = self.base.param_groups
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        if self._phase in ("above", "ahead"):
            raise InvalidInput(f"{self._name}: it is copied within a step; call step() or restore() before it")
        names = ("base", "model", "synchronize", "_options", "defaults", "state", "param_groups")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_phase" not in self.__dict__:
            self._checks = []
            self._reset()


class _Check:
    """The parameters of an optimiser under an identity by which GradScaler counts a further check or step."""

    _step_supports_amp_scaling = True

    def __init__(self, optimizer: SharpnessAware) -> None:
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups

    def step(self) -> None:
        """Called by GradScaler, which has set grad_scale and found_inf."""
        self.optimizer._descend(self)


def unscale_gradients(groups: list[Group], scale: Tensor) -> None:
    """Divides all gradients by the scale, as GradScaler does: times its reciprocal."""
    inverse = scale.double().reciprocal().float() if scale.device.type != "mps" else scale.reciprocal()
    for group in groups:
        for owner in group["params"]:
            if owner.grad is not None:
                owner.grad.mul_(inverse.to(owner.grad.device))


def _share_overflow(parts: list[Part], group: torch.distributed.ProcessGroup | None) -> None:
    """Makes gradients that are not finite in one process not finite in all, so that all skip the step."""
    if not parts:
        return
    finite = global_norm([part.gradients for part in parts]).isfinite().to(torch.uint8)
    torch.distributed.all_reduce(finite, op=torch.distributed.ReduceOp.MIN, group=group)
    if not bool(finite):
        for owner in parts[0].owners[:1]:
            owner.grad = torch.full_like(owner, torch.inf)
