"""m-SAM for one's own loop: an ascent for each micro-batch, and the sum of the gradients above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from sharpbench.optim.options import check_option
from sharpbench.optim.parts import Group, Part
from sharpbench.optim.rules import Vector
from sharpbench.optim.sharpness_aware import Closure, SharpnessAware


class MSAM(SharpnessAware):
    """SAM with a separate ascent for each micro-batch; the base optimiser steps with the sum of the gradients.

    As in usual gradient accumulation each loss is divided by the number of micro-batches, or has the weight of its
    examples: `(loss / 4).backward()`. Only one micro-batch is in memory at a time. Each process of
    DistributedDataParallel has its own ascents.

    In closures: `step([closure, ...])`, one for each micro-batch. In two steps: for each micro-batch backward,
    `first_step()`, backward, `accumulate()`; then `second_step()`. Cost: two gradients of each micro-batch per step,
    and a copy of the gradient.

    Args:
        base: the optimiser that takes the steps.
        model: the network, in its wrapper where it has one; None for parameters without a network.
        rho: the length of the ascents, at least 0. A group may have its own, as a key `rho`.

    Raises:
        InvalidInput: as SharpnessAware.

    Source: Foret et al. 2021, section 4.1; Behdin et al. 2023.

    >>> import torch
    >>> from sharpbench.optim import MSAM
    >>> theta = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = MSAM(torch.optim.SGD([theta], lr=0.1), None, rho=0.5)
    >>> def closure():
    ...     loss = (theta * torch.tensor([1.0, 2.0])).square().sum() / 2
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(2):
    ...     loss = optimizer.step(closure)
    >>> theta
    tensor([2.4071, 1.1308], requires_grad=True)
    """

    def __init__(self, base: torch.optim.Optimizer, model: nn.Module | None, *, rho: float = 0.05) -> None:
        super().__init__(base, model, {"rho": rho}, synchronize=False)

    def check_group(self, group: Group) -> None:
        """See SharpnessAware."""
        check_option(self, group, "rho")

    def direction(self, part: Part) -> tuple[Vector, Vector]:
        """See SharpnessAware."""
        return part.gradients, part.gradients

    def _reset(self) -> None:
        super()._reset()
        self._sum: dict[Tensor, Tensor] = {}

    def step(self, closure: Closure | Sequence[Closure] | None = None, *, scaler: GradScaler | None = None) -> Any:
        """One step.

        Args:
            closure: one closure for each micro-batch, or one; each is called twice. None: after `accumulate()`.
            scaler: see SharpnessAware.

        Returns:
            The sum of what the closures returned at the weights; None without a closure.
        """
        if closure is None:
            return self._descend(self)
        losses = []
        try:
            for each in [closure] if callable(closure) else closure:
                losses.append(self._evaluate(each, local=True))
                self.first_step(scaler=scaler)
                self._evaluate(each)
                self.accumulate()
        except BaseException:
            self._withdraw()
            raise
        self.restore()
        self._finish(scaler)
        return None if any(loss is None for loss in losses) else sum(losses)

    @torch.no_grad()
    def accumulate(self) -> None:
        """Writes the weights back, adds the gradients above to the sum, and removes them: the end of a micro-batch."""
        self._withdraw_if(self._phase != "above", "accumulate() needs backward() and first_step() before it")
        self._write_back()
        for group in self.param_groups:
            for owner in group["params"]:
                if owner.grad is not None:
                    gradient = owner.grad.clone()
                    self._sum[owner] = self._sum[owner] + gradient if owner in self._sum else gradient
        self.zero_grad()
        self._phase = "accumulated"

    @torch.no_grad()
    def restore(self) -> None:
        """See SharpnessAware: leaves the sum in `grad`."""
        if self._phase == "above":
            self.accumulate()
        if self._phase == "accumulated":
            for owner, gradient in self._sum.items():
                owner.grad = gradient
            self._sum = {}
            self._phase = "restored"

    def second_step(self, *, zero_grad: bool = True, scaler: GradScaler | None = None) -> None:
        """See SharpnessAware."""
        self.restore()
        super().second_step(zero_grad=zero_grad, scaler=scaler)

    @torch.no_grad()
    def _descend(self, scaling: object) -> None:
        waiting = self._phase == "accumulated" or bool(self._sum)
        self._withdraw_if(
            waiting and hasattr(scaling, "found_inf"),
            "call restore() before scaler.step(optimizer) or scaler.unscale_(optimizer), or second_step(scaler=scaler)",
        )
        self.restore()
        super()._descend(scaling)
