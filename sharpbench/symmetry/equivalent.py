"""Equivalent: the network of the same function whose Hessian has the least trace."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sharpbench.core.loss import Criterion, Losses
from sharpbench.core.subject import Subject
from sharpbench.curvature import exact_diagonal, exact_traces
from sharpbench.errors import InvalidInput
from sharpbench.symmetry.arrows import PROGRAMME
from sharpbench.symmetry.group import RescalingGroup, Scope, group_of
from sharpbench.symmetry.infimum import Least, least
from sharpbench.symmetry.memory import overlapping


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
    attained by any network, or not found, where parameters share memory without being one, where the function would
    change, and as Subject.from_module and `rescaling_group` do.
    """
    if shared := overlapping(model):
        raise InvalidInput(f"{', '.join(sorted(shared))} share memory; make them one parameter, or copies")
    subject = Subject.from_module(model, inputs, targets, criterion=criterion, parameters=parameters)
    group = group_of(subject.graph, set(subject.params), scope=scope)
    solved = least(group, diagonal_for(group, subject))
    _check(solved, scope)
    examples, _ = next(subject.batches)
    elements = [group.random_element(torch.Generator().manual_seed(0)), solved.u]
    group.verified(lambda params: subject.apply(params, examples), subject.params, elements)
    return group.apply({name: value.detach() for name, value in model.state_dict().items()}, solved.u)


def _check(solved: Least, scope: Scope) -> None:
    if solved.vanishing:
        raise InvalidInput(
            f"no network attains the minimum[scope={scope}]: it can be approached by driving {solved.vanishing} "
            "to 0; leave these out of parameters="
        )
    if solved.vanishing is None:
        raise InvalidInput(
            f"whether a network attains the minimum[scope={scope}] is not known: exponents have more than two units or "
            f"other factors than 1, and more than {PROGRAMME:,} terms; use scope=layer"
        )
    if not solved.converged:
        raise InvalidInput(
            f"the minimum[scope={scope}] was not found: after {solved.steps} steps the relative gradient is "
            f"{solved.gradient:.1e} and the gap {solved.gap:.1e}; use float64, or leave parameters out of parameters="
        )


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
