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
from sharpbench.symmetry.group import RescalingGroup
from sharpbench.symmetry.minimum.layers import GAP_TOLERANCE, check_finite, check_not_negative, minimise
from sharpbench.symmetry.minimum.terms import row_traces, unit_terms
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
        InvalidInput: where an entry is not finite; where one is negative, or for a group of layers the sum over a
            block: the minimum over rescalings then has no bound.

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
    check_not_negative({f"the diagonal of {name}": values for name, values in diagonal.items()})
    solved = balance_terms(unit_terms(group, {name: np.maximum(values, 0.0) for name, values in diagonal.items()}))
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
    """A diagonal by parameter as float64 numpy arrays.

    >>> symmetry.as_arrays({"w": torch.tensor([1.0, 2.0])})
    {'w': array([1., 2.])}
    """
    return {name: value.detach().to(device="cpu", dtype=torch.float64).numpy() for name, value in diagonal.items()}
