"""Equivalent: the network of the same function whose Hessian has the least trace."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sharpbench.criterion import Criterion, Losses
from sharpbench.curvature import exact_diagonal, exact_traces
from sharpbench.errors import InvalidInput
from sharpbench.subject import Subject
from sharpbench.symmetry.group import RescalingGroup, Scope, group_of
from sharpbench.symmetry.infimum import least


def balance(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    scope: Scope = "layer",
    criterion: str | Losses | Criterion | None = "cross_entropy",
    parameters: Iterable[str] | None = None,
) -> dict[str, Tensor]:
    """The state dict of `model` rescaled so that its trace is minimum sharpness; the function stays as it is.

    The trace is that of the Hessian of the mean loss on `inputs` [n, ...] and `targets`, of the Gauss-Newton matrix
    where the network is not certified piecewise affine, over `parameters` (all that require gradients). scope:
    one scale a tensor or one a unit. The model is not changed; types, devices and tied names stay.
    Cost: that of the exact traces, or for units of the exact diagonal. Raises InvalidInput where the minimum is not
    attained by any network, and as Subject.from_module and `rescaling_group` do.
    """
    subject = Subject.from_module(model, inputs, targets, criterion=criterion, parameters=parameters)
    group = group_of(subject.graph, set(subject.params), scope=scope)
    solved = least(group, diagonal_for(group, subject))
    if solved.vanishing:
        raise InvalidInput(
            f"no network attains the minimum[scope={scope}]: it can be approached by driving {solved.vanishing} "
            "to 0; leave these out of parameters="
        )
    return group.apply({name: value.detach() for name, value in model.state_dict().items()}, solved.u)


def diagonal_for(group: RescalingGroup, subject: Subject) -> dict[str, NDArray[np.float64]]:
    """The Gauss-Newton diagonal by parameter, float64, or its sums where the group asks for no more."""
    if all(array.size == 1 for arrays in group.places.values() for array in arrays):
        return {name: np.asarray(trace) for name, trace in subject.once(exact_traces).items()}
    return as_arrays(subject.once(exact_diagonal))


def as_arrays(diagonal: dict[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    """A diagonal in numpy; what is below 0 counts as 0."""
    return {
        name: value.detach().to(device="cpu", dtype=torch.float64).clamp(min=0.0).numpy()
        for name, value in diagonal.items()
    }
