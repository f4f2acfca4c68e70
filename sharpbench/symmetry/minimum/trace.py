"""The minimum of the trace of a diagonal over a rescaling group of layers or units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpbench.core.subject import Subject
from sharpbench.curvature import exact_diagonal, example_stderr, mean_traces, traces_by_example
from sharpbench.errors import InvalidInput
from sharpbench.symmetry.group import RescalingGroup, Scope, find_overlapping, group_of
from sharpbench.symmetry.minimum.layers import GAP_TOLERANCE, check_finite, minimise
from sharpbench.symmetry.minimum.terms import MAX_PROGRAMME_TERMS, row_traces, unit_terms
from sharpbench.symmetry.minimum.units import GRADIENT_TOLERANCE, balance_terms

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MinimumTrace:
    """The infimum over u of sum_j D_j exp(-2 s_j), for the log-scales s of the group's element u.

    parts: its share by parameter.
    u: the minimiser, or a point near the infimum where it is not attained.
    gap: how far the value may lie above the infimum, relative to it: for layers proven by a dual point, for units half
        the squared Newton decrement.
    gradient: the largest derivative of log(sum) by a coordinate of u.
    converged: whether the gap (layers) or the gradient (units) is at most ten times its target.
    vanishing: what can be driven to 0, in words; empty where the infimum is attained, None where that is unknown.
    """

    value: float
    parts: Mapping[str, float]
    u: Array
    method: str
    gap: float
    gradient: float
    converged: bool
    vanishing: str | None
    steps: int


def minimum_trace(group: RescalingGroup, diagonal: Mapping[str, Array]) -> MinimumTrace:
    """The smallest sum of a diagonal D >= 0 that an element of the group reaches.

    Args:
        group: of layers or of units.
        diagonal: float64 arrays by parameter, of its shape. For a group of layers, the sum over a parameter that is not
            split into blocks may take the place of its entries.
    Returns:
        A MinimumTrace; parameters outside the group count unchanged.
    Raises:
        InvalidInput: where an entry is not finite.

    >>> group = symmetry.rescaling_group(model, inputs)
    >>> sums = {"0.weight": np.array(1.0), "2.weight": np.array(4.0)}
    >>> round(symmetry.minimum_trace(group, sums).value, 9)  # 2 sqrt(1 * 4)
    4.0
    """
    for name, values in diagonal.items():
        check_finite(f"the diagonal of {name}", values)
    return _minimise_units(group, diagonal) if group.scope == "unit" else _minimise_layers(group, diagonal)


def _minimise_layers(group: RescalingGroup, diagonal: Mapping[str, Array]) -> MinimumTrace:
    fixed = {name: float(values.sum()) for name, values in diagonal.items() if name not in group.basis_rows}
    traces = np.append(row_traces(group, diagonal), sum(fixed.values()))
    basis = np.vstack((group.basis, np.zeros((1, group.dimension))))  # type: ignore[arg-type]  # dense for layers
    solved = minimise(traces, basis)
    moved = {name: float(solved.terms[np.unique(rows)].sum()) for name, (rows,) in group.basis_rows.items()}
    names = group.names if solved.vanishing else ()
    return MinimumTrace(
        solved.value,
        {name: moved.get(name, fixed.get(name, 0.0)) for name in diagonal},
        solved.u,
        solved.method,
        solved.gap,
        float(np.abs(2 * basis.T @ solved.terms).max(initial=0.0)) / (solved.value or 1.0),
        solved.gap <= 10 * GAP_TOLERANCE,
        ", ".join(names[row] for row in solved.vanishing),
        solved.steps,
    )


def _minimise_units(group: RescalingGroup, diagonal: Mapping[str, Array]) -> MinimumTrace:
    solved = balance_terms(unit_terms(group, diagonal))
    words = None
    if solved.vanishing is not None:
        words = ", ".join(f"{count} of {name}" for name, count in solved.vanishing.items())
    method = "newton-cg" if group.dimension else "no freedom"
    return MinimumTrace(
        solved.value,
        solved.parts,
        solved.u,
        method,
        solved.gap,
        solved.gradient,
        solved.gradient <= 10 * GRADIENT_TOLERANCE,
        words,
        solved.steps,
    )


def balance(subject: Subject, *, scope: Scope = "layer") -> dict[str, Tensor]:
    """The state dict of the network, rescaled without changing the function so that its trace is minimum sharpness.

    The trace is that of the Hessian of the mean loss, or of the Gauss-Newton matrix where the network is not certified
    piecewise affine. The module is not changed; dtypes, devices and tied names are kept.

    Args:
        subject: the network, its loss and its examples; the trace is taken over its measured parameters.
        scope: 'layer', one scale per tensor, or 'unit', one per unit.
    Raises:
        InvalidInput: as `rescaling_group`; where no network attains the minimum, or it is not
            found; where parameters share memory without being one; where the function would change.

    Cost: that of the exact traces, or for units of the exact diagonal.

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
    group = group_of(subject.graph, set(subject.params), scope=scope)
    solved = minimum_trace(group, diagonal_for(group, subject))
    _require_attained(solved, scope)
    examples, _ = next(subject.batches)
    elements = [group.random_element(torch.Generator().manual_seed(0)), solved.u]
    group.verify_elements(lambda params: subject.apply(params, examples), subject.params, elements)
    return group.apply({name: value.detach() for name, value in subject.module.state_dict().items()}, solved.u)


def _require_attained(solved: MinimumTrace, scope: Scope) -> None:
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


def diagonal_for(group: RescalingGroup, subject: Subject) -> dict[str, NDArray[np.float64]]:
    """The Gauss-Newton diagonal by parameter, float64, or its sums where they suffice for `minimum_trace`.

    >>> subject = Subject.from_module(model, inputs, targets)
    >>> group = symmetry.group_of(subject.graph)
    >>> {name: values.shape for name, values in symmetry.diagonal_for(group, subject).items()}
    {'0.weight': (), '2.weight': ()}
    """
    if _of_whole_parameters(group):
        traces = mean_traces(subject, subject.once(traces_by_example))
        return {name: np.asarray(trace) for name, trace in traces.items()}
    return as_arrays(subject.once(exact_diagonal))


def minimum_example_stderr(group: RescalingGroup, subject: Subject, solved: MinimumTrace) -> float | None:
    """The standard error over examples of a minimum, to first order; None where that takes more than block traces.

    At the minimiser the derivative of the minimum by a trace is the factor by which the rescaling changes that trace
    (the envelope theorem), so that it is the spread of the examples' traces at the rescaled weights.

    >>> subject = Subject.from_module(model, inputs, targets)
    >>> group = symmetry.group_of(subject.graph)
    >>> solved = symmetry.minimum_trace(group, symmetry.diagonal_for(group, subject))
    >>> symmetry.minimum_example_stderr(group, subject, solved) > 0
    True
    """
    if not _of_whole_parameters(group):
        return None
    by_example = subject.once(traces_by_example)
    traces = mean_traces(subject, by_example)
    factors = [solved.parts[name] / trace if trace > 0 else 0.0 for name, trace in traces.items()]
    return example_stderr(by_example @ torch.tensor(factors, dtype=torch.float64), shares=subject.shares)


def _of_whole_parameters(group: RescalingGroup) -> bool:
    """Whether the group rescales each parameter by one factor, so that it needs only the traces of blocks."""
    return all(array.size == 1 for arrays in group.basis_rows.values() for array in arrays)


def as_arrays(diagonal: dict[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    """A diagonal by parameter as float64 numpy arrays, with negative entries set to 0.

    >>> symmetry.as_arrays({"w": torch.tensor([1.0, -2.0])})
    {'w': array([1., 0.])}
    """
    return {
        name: value.detach().to(device="cpu", dtype=torch.float64).clamp(min=0.0).numpy()
        for name, value in diagonal.items()
    }
