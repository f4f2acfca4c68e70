"""SAM, ASAM, F-SAM and GSAM for one's own loop."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sharpbench.errors import InvalidInput
from sharpbench.optim import rules
from sharpbench.optim.options import check_choice, check_option
from sharpbench.optim.parts import NUMBERS, Group, Part, collect_parts, global_norm, global_product, put_gradients
from sharpbench.optim.rules import Vector
from sharpbench.optim.sharpness_aware import SharpnessAware

Layers = Literal["authors", "matrices", "all"]
Normalization = Literal["element", "filter"]
MIN_MATRIX_DIMENSIONS = 2
"""Of the parameters that layers="matrices" normalises."""


class SAM(SharpnessAware):
    """Sharpness-aware minimisation: e = rho g / |g|; the base optimiser steps with the gradient at theta + e.

    Equals the SAM of github.com/davda54/sam, with two differences. A norm below 1e-12 counts as 1e-12, where that class
    adds 1e-12; and weights come back bit by bit. Cost: two gradients per step.

    Args:
        base: the optimiser that takes the steps.
        model: the network, in its wrapper where it has one; None for parameters without a network.
        rho: the length of the ascent, at least 0. A group may have its own, as a key `rho`.
        synchronize: with False each process of DistributedDataParallel ascends along its own batch's gradient:
            the m-sharpness of Foret et al., with m the batch of one process, and less communication.

    Raises:
        InvalidInput: as SharpnessAware.

    Source: Foret, Kleiner, Mobahi, Neyshabur 2021, Algorithm 1.

    >>> import torch
    >>> from sharpbench.optim import SAM
    >>> theta = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = SAM(torch.optim.SGD([theta], lr=0.1), None, rho=0.5)
    >>> def closure():
    ...     loss = theta.square().sum() / 2
    ...     loss.backward()
    ...     return loss
    >>> optimizer.step(closure), theta
    (tensor(12.5000, grad_fn=<DivBackward0>), tensor([2.6700, 3.5600], requires_grad=True))
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        model: nn.Module | None,
        *,
        rho: float = 0.05,
        synchronize: bool = True,
    ) -> None:
        super().__init__(base, model, {"rho": rho}, synchronize=synchronize)

    def check_group(self, group: Group) -> None:
        """See SharpnessAware."""
        check_option(self, group, "rho")

    def direction(self, part: Part) -> tuple[Vector, Vector]:
        """See SharpnessAware."""
        return part.gradients, part.gradients


class ASAM(SharpnessAware):
    """Adaptive SAM: e = rho T^2 g / |T g| with T = |theta| + eta; the step has the gradient at theta + e.

    With layers="authors" equals the ASAM of github.com/SamsungLabs/ASAM. Cost: two gradients per step.

    Args:
        base: the optimiser that takes the steps.
        model: the network, whose names of parameters layers="authors" needs.
        rho: the length of the normalised ascent, at least 0. A group may have its own, as of the other options.
        eta: the term that is added to |theta|, at least 0.
        layers: which parameters are normalised, the others have T = 1: "authors", those with "weight" in their name
            (so weights of norms, but not biases); "matrices", those of two dimensions or more; "all".
        normalization: "element", or "filter": the norm of each filter in place of |theta|, for more than two
            dimensions.
        synchronize: see SAM.

    Raises:
        InvalidInput: as SharpnessAware, and for layers="authors" where a parameter has no name.

    Source: Kwon, Kim, Park, Choi 2021.

    >>> import torch
    >>> from sharpbench.optim import ASAM
    >>> theta = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = ASAM(torch.optim.SGD([theta], lr=0.1), None, rho=0.5, layers="all")
    >>> def closure():
    ...     loss = (theta * torch.tensor([1.0, 2.0])).square().sum() / 2
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(2):
    ...     loss = optimizer.step(closure)
    >>> theta
    tensor([2.3345, 0.6980], requires_grad=True)
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        model: nn.Module | None,
        *,
        rho: float = 0.5,
        eta: float = 0.01,
        layers: Layers = "authors",
        normalization: Normalization = "element",
        synchronize: bool = True,
    ) -> None:
        self._names = _find_names(model)
        options = {"rho": rho, "eta": eta, "layers": layers, "normalization": normalization}
        super().__init__(base, model, options, synchronize=synchronize)

    def check_group(self, group: Group) -> None:
        """See SharpnessAware."""
        check_option(self, group, "rho")
        check_option(self, group, "eta")
        check_choice(self, group, "layers", get_args(Layers))
        check_choice(self, group, "normalization", get_args(Normalization))
        if group["layers"] == "authors":
            self._names |= dict(zip(group["params"], group.get("param_names", ()), strict=False))
            self._names = {**_find_names(self.model), **self._names}
            if any(owner not in self._names for owner in group["params"]):
                raise InvalidInput(
                    "ASAM: layers=authors decides by the names of parameters, and one of a group is not in `model`; "
                    "give model.named_parameters() to the base optimiser, or choose layers='matrices' or 'all'"
                )

    def direction(self, part: Part) -> tuple[Vector, Vector]:
        """See SharpnessAware."""
        normalized = [self._is_normalized(owner, part.group["layers"]) for owner in part.owners]
        filters = part.group["normalization"] == "filter"
        return rules.adaptive_direction(
            NUMBERS, part.weights, part.gradients, part.group["eta"], normalized=normalized, filters=filters
        )

    def _is_normalized(self, owner: Tensor, layers: Layers) -> bool:
        if layers == "authors":
            return rules.NORMALIZED_NAME in self._names[owner]
        return layers == "all" or owner.ndim >= MIN_MATRIX_DIMENSIONS

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_names": self._names}


class FriendlySAM(SharpnessAware):
    """Friendly SAM: the ascent follows g - sigma m, m the moving average of the gradients of earlier steps.

    In a parameter's first step m is 0; afterwards m is that g, then m <- smoothing m + (1 - smoothing) g. Equals the
    class of github.com/nblt/F-SAM without its option `adaptive`. Cost: two gradients per step, and one copy of the
    weights as state.

    Args:
        base: the optimiser that takes the steps.
        model: the network, in its wrapper where it has one; None for parameters without a network.
        rho: the length of the ascent, at least 0. A group may have its own, as of the other options.
        sigma: the share of m that is subtracted, at least 0.
        smoothing: the decay of the moving average, from 0 to below 1.
        synchronize: see SAM; with False each process has its own m.

    Raises:
        InvalidInput: as SharpnessAware.

    Source: Li, Zhou, He, Cheng, Huang 2024.

    >>> import torch
    >>> from sharpbench.optim import FriendlySAM
    >>> theta = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = FriendlySAM(torch.optim.SGD([theta], lr=0.1), None, rho=0.5)
    >>> def closure():
    ...     loss = (theta * torch.tensor([1.0, 2.0])).square().sum() / 2
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(2):
    ...     loss = optimizer.step(closure)
    >>> theta
    tensor([2.4239, 1.5219], requires_grad=True)
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        model: nn.Module | None,
        *,
        rho: float = 0.2,
        sigma: float = 1.0,
        smoothing: float = 0.9,
        synchronize: bool = True,
    ) -> None:
        super().__init__(base, model, {"rho": rho, "sigma": sigma, "smoothing": smoothing}, synchronize=synchronize)

    def check_group(self, group: Group) -> None:
        """See SharpnessAware."""
        check_option(self, group, "rho")
        check_option(self, group, "sigma")
        check_option(self, group, "smoothing", below=1.0)

    def _reset(self) -> None:
        super()._reset()
        self._means: list[tuple[Tensor, Tensor]] = []

    def direction(self, part: Part) -> tuple[Vector, Vector]:
        """See SharpnessAware."""
        earlier = [self.state[owner].get("mean") for owner in part.owners]
        means = [
            torch.zeros_like(gradient) if mean is None else mean
            for mean, gradient in zip(earlier, part.gradients, strict=True)
        ]
        direction = rules.friendly_direction(NUMBERS, part.gradients, means, -part.group["sigma"])
        moved = rules.friendly_mean(NUMBERS, part.gradients, means, 1 - part.group["smoothing"])
        for owner, gradient, mean, after in zip(part.owners, part.gradients, earlier, moved, strict=True):
            self._means.append((owner, gradient.clone() if mean is None else after))
        return direction, direction

    def commit_state(self) -> None:
        """See SharpnessAware."""
        for owner, mean in self._means:
            self.state[owner]["mean"] = mean


class GSAM(SharpnessAware):
    """SAM that also lowers the surrogate gap: the step has g_p - alpha g_o.

    g is the gradient at the weights, g_p that at the end of the ascent of SAM, and g_o the part of g that is orthogonal
    to g_p over all parameters. alpha = 0 is SAM. The base optimiser receives dense gradients. Cost: two gradients per
    step, and a copy of g.

    Args:
        base: the optimiser that takes the steps.
        model: the network, in its wrapper where it has one; None for parameters without a network.
        rho: the length of the ascent, at least 0. A group may have its own. The paper moves it with the learning rate:
            write to `param_groups`.
        gsam_alpha: alpha, at least 0.

    Raises:
        InvalidInput: as SharpnessAware.

    Source: Zhuang, Gong, Yuan, Cui, Adam, Dvornek, Tatikonda, Duncan, Liu 2022, Algorithm 1.

    >>> import torch
    >>> from sharpbench.optim import GSAM
    >>> theta = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> optimizer = GSAM(torch.optim.SGD([theta], lr=0.1), None, rho=0.5)
    >>> def closure():
    ...     loss = (theta * torch.tensor([1.0, 2.0])).square().sum() / 2
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(2):
    ...     loss = optimizer.step(closure)
    >>> theta
    tensor([2.4292, 1.1263], requires_grad=True)
    """

    def __init__(
        self, base: torch.optim.Optimizer, model: nn.Module | None, *, rho: float = 0.05, gsam_alpha: float = 0.4
    ) -> None:
        super().__init__(base, model, {"rho": rho, "gsam_alpha": gsam_alpha})

    def check_group(self, group: Group) -> None:
        """See SharpnessAware."""
        check_option(self, group, "rho")
        check_option(self, group, "gsam_alpha")

    def _reset(self) -> None:
        super()._reset()
        self._clean: dict[Tensor, Tensor] = {}

    def direction(self, part: Part) -> tuple[Vector, Vector]:
        """See SharpnessAware."""
        return part.gradients, part.gradients

    def _check_gradients(self, scaler: Any) -> None:
        """Keeps the gradients as they are scaled: those of the second pass are, until the scaler divides them."""
        parts = collect_parts(self.param_groups)
        self._clean = {
            owner: gradient.clone()
            for part in parts
            for owner, gradient in zip(part.owners, part.gradients, strict=True)
        }
        super()._check_gradients(scaler)

    def finish_gradient(self) -> None:
        """See SharpnessAware."""
        parts = collect_parts(self.param_groups)
        pairs: list[tuple[Vector, Vector]] = []
        for part in parts:
            zeros = zip(part.owners, part.gradients, strict=True)
            clean = [self._clean[owner] if owner in self._clean else torch.zeros_like(value) for owner, value in zeros]
            pairs.append((clean, part.gradients))
        if not parts:
            return
        share = rules.gap_share(global_product(pairs), global_norm([above for _, above in pairs]))
        for part, (clean, above) in zip(parts, pairs, strict=True):
            here = share.to(above[0].device)
            put_gradients(part.owners, rules.gap_gradient(NUMBERS, clean, above, here, part.group["gsam_alpha"]))


def _find_names(model: nn.Module | None) -> dict[Tensor, str]:
    return {} if model is None else {owner: name for name, owner in model.named_parameters()}
