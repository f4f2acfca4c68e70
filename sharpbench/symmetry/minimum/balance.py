"""The equivalent network of least trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from sharpbench.core.requirements import COMPARED
from sharpbench.core.subject import Params, Subject
from sharpbench.errors import InvalidInput
from sharpbench.symmetry.float64_check import relative_change, rounding_bound
from sharpbench.symmetry.free_parameters import find_overlapping
from sharpbench.symmetry.full_group import full_group
from sharpbench.symmetry.group import RescalingGroup, Scope, group_of
from sharpbench.symmetry.minimum.full import FullMinimum, minimise_full
from sharpbench.symmetry.minimum.terms import MAX_PROGRAMME_TERMS
from sharpbench.symmetry.minimum.trace import MinimumTrace, as_arrays, diagonal_for, minimum_trace

Array = NDArray[np.float64]


def balance(subject: Subject, *, scope: Scope | Literal["full"] = "layer") -> dict[str, Tensor]:
    """The state dict of the network, rescaled without changing the function so that its trace is minimum sharpness.

    The trace is that of the Hessian of the mean loss, or of the Gauss-Newton matrix where the network is not certified
    piecewise affine. The module is not changed; dtypes, devices and tied names are kept.

    Args:
        subject: the network, its loss and its examples; the trace is taken over its measured parameters.
        scope: 'layer', one scale per tensor; 'unit', one per unit; 'full', the matrices of attention as well.
    Raises:
        InvalidInput: as `rescaling_group`; where no network attains the minimum, or it is not
            found; where parameters share memory without being one; where the function would change.

    Cost: that of the exact traces, for units of the exact diagonal, for 'full' of `minimise_full`.

    >>> from sharpbench import curvature
    >>> import copy
    >>> balanced = copy.deepcopy(model)
    >>> keys = balanced.load_state_dict(symmetry.balance(Subject.from_module(model, inputs, targets)))
    >>> first, second = curvature.exact_traces(Subject.from_module(balanced, inputs, targets)).values()
    >>> round(first / second, 9)
    1.0
    """
    if shared := find_overlapping(subject.module):
        raise InvalidInput(f"{', '.join(sorted(shared))} share memory; make them one parameter, or copies")
    if scope == "full":
        return _balance_fully(subject)
    group = group_of(subject.graph, set(subject.params), scope=scope)
    solved = minimum_trace(group, diagonal_for(group, subject))
    _require_attained(solved, scope)
    _verify(group, subject, solved.u)
    return group.apply({name: value.detach() for name, value in subject.module.state_dict().items()}, solved.u)


def balanced_params(subject: Subject, *, scope: Scope = "unit") -> Params:
    """The measured weights of the subject, rescaled as `balance` does, in their types.

    Units whose incoming and outgoing weights have no curvature, as those that are never active, have any scale at the
    minimum. Theirs is the one of least squared norm, so that all rescaled copies of a network get the same weights.

    Args:
        subject: the network at `subject.params`, which may differ from the module's own weights.
        scope: 'layer' or 'unit'.
    Raises:
        InvalidInput: as `balance`.

    Cost: that of the exact traces, for units of the exact diagonal.

    >>> from sharpbench import curvature
    >>> subject = Subject.from_module(model, inputs, targets)
    >>> moved = subject.with_params(symmetry.balanced_params(subject, scope="layer"))
    >>> first, second = curvature.exact_traces(moved).values()
    >>> round(first / second, 9)
    1.0
    """
    if shared := find_overlapping(subject.module):
        raise InvalidInput(f"{', '.join(sorted(shared))} share memory; make them one parameter, or copies")
    group = group_of(subject.graph, set(subject.params), scope=scope)
    diagonal = diagonal_for(group, subject)
    solved = minimum_trace(group, diagonal)
    _require_attained(solved, scope)
    u = solved.u + _shrink_idle_units(group, diagonal, group.apply(subject.params, solved.u))
    _verify(group, subject, u)
    return group.apply(subject.params, u)


def _verify(group: RescalingGroup, subject: Subject, u: Array) -> None:
    """Raise InvalidInput where the element, or a random one, changes the function on the first batch."""
    examples, _ = next(subject.batches)
    elements = [group.random_element(torch.Generator().manual_seed(0)), u]
    group.verify_elements(lambda params: subject.apply(params, examples), subject.params, elements)


def _shrink_idle_units(group: RescalingGroup, diagonal: Mapping[str, Array], params: Params) -> Array:
    """The element that gives the units without curvature the least squared norm of their weights, 0 elsewhere."""
    u = np.zeros(group.dimension)
    if group.scope != "unit" or not group.dimension:
        return u
    curved = np.zeros(group.basis.shape[0])
    for name, arrays in group.basis_rows.items():
        for rows in arrays:
            values = diagonal[name] if diagonal[name].ndim else diagonal[name].reshape((1,) * rows.ndim)
            shape = np.broadcast_shapes(rows.shape, values.shape)
            np.add.at(curved, np.broadcast_to(rows, shape).ravel(), np.abs(np.broadcast_to(values, shape)).ravel())
    basis = csr_array(group.basis)
    idle = np.flatnonzero(np.asarray(abs(basis).T @ curved) == 0)
    if not len(idle):
        return u
    some = replace(group, basis=csr_array(basis[:, idle]))
    squares = as_arrays({name: value.double().square() for name, value in params.items() if name in group.basis_rows})
    solved = minimum_trace(some, squares)  # of exp(-2 s), and weights grow with exp(s)
    if solved.vanishing == "":
        u[idle] = -solved.u
    return u


def _balance_fully(subject: Subject) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = subject.examples(COMPARED)
    group = full_group(
        subject.module, inputs, generator=generator, parameters=set(subject.params), forward=subject.forward
    )
    solved = minimise_full(subject, group)
    _require_attained(solved, "full")
    moved = {name: solved.params[name].to(value) for name, value in subject.params.items()}
    examples, _ = next(subject.batches)
    with torch.no_grad():
        change = relative_change(subject.apply(subject.params, examples), subject.apply(moved, examples))
    if not change <= rounding_bound(subject.params.values()):
        raise InvalidInput(f"the network at the minimum[scope=full] has other outputs, by {change:.1e} of their size")
    state = {name: value.detach() for name, value in subject.module.state_dict().items()}
    tied = group.units.tied
    return {
        name: moved[tied.get(name, name)].to(value) if tied.get(name, name) in moved else value
        for name, value in state.items()
    }


def _require_attained(solved: MinimumTrace | FullMinimum, scope: str) -> None:
    if solved.vanishing:
        raise InvalidInput(
            f"no network attains the minimum[scope={scope}]: it can be approached by driving {solved.vanishing} "
            "to 0; leave these out of parameters="
        )
    if solved.vanishing is None:
        raise InvalidInput(
            f"whether a network attains the minimum[scope={scope}] is not known: exponents have more than two units or "
            f"other factors than 1, and more than {MAX_PROGRAMME_TERMS:,} terms; use scope=layer"
        )
    if not solved.converged:
        raise InvalidInput(
            f"the minimum[scope={scope}] was not found: after {solved.steps} steps the relative gradient is "
            f"{solved.gradient:.1e} and the gap {solved.gap:.1e}; use float64, or leave parameters out of parameters="
        )
