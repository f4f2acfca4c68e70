"""Minimum sharpness: the trace of the Hessian, minimised over all rescalings that preserve the function."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from sharpbench import Estimate, InvalidInput, Measure, NotApplicable, Subject
from sharpbench.contract import Invariance
from sharpbench.curvature import DENSE_LIMIT, certificate, exact_traces, reference_traces
from sharpbench.symmetry import GAP, RescalingGroup, group_of, minimise


@dataclass(frozen=True)
class Minimum(Measure):
    """min_u sum_b tr H_b exp(-2 (B u)_b): the smallest Hessian trace of any rescaled network.

    H_b is the diagonal block of parameter tensor b in the Hessian of the mean loss, biases included (in the
    Gauss-Newton matrix where the network is not certified piecewise affine; details.matrix says which), and B the
    basis of the network's rescaling group, one scale a tensor, read off its graph. For a chain of layers this
    is the paper's Definition 1; without biases its Theorem 1, L (prod_l tr H_l)^(1/L), which is what the solve
    returns there in closed form. Elsewhere Newton's method, with a duality gap in the record. Operators that
    the group does not know pin their tensors: the value can then only be larger. Blocks that can be driven to
    0 make an infimum that is not attained; the value is the infimum and the blocks are named.

    Deviation from the paper: it minimises by 10,000 steps of SGD, which stop above the minimum.
    Cost: that of the exact traces; the solve takes milliseconds.
    """

    name: ClassVar[str] = "minimum"
    title: ClassVar[str] = "minimum sharpness"
    source: ClassVar[str] = "Ibayashi, Hamaguchi, Imaizumi 2021, Minimum Sharpness, Definition 1, Theorem 1"
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; the value is deterministic, `details.function_change` is of a random element."""
        try:
            group = group_of(subject.graph, set(subject.params))
        except InvalidInput as error:
            raise NotApplicable(f"no rescaling group: {error}") from error
        examples, _ = next(subject.batches)
        change = group.verify(lambda params: subject.apply(params, examples), subject.params, generator=generator)
        estimate = _estimate(subject.once(exact_traces), group, change)
        certified = not any(subject.once(certificate).values())
        return replace(estimate, details={**estimate.details, "matrix": "hessian" if certified else "gauss-newton"})

    def exact(self, subject: Subject) -> float | None:
        """The same minimum over the reference traces; None where those are not of the same matrix."""
        if any(subject.once(certificate).values()):
            return None
        return _estimate(reference_traces(subject), group_of(subject.graph, set(subject.params)), 0.0).value

    def invariances(self) -> frozenset[Invariance]:
        """One scale a tensor; a rescaling of single units changes the block traces."""
        return frozenset({"layer", "permutation"})


def _estimate(traces: Mapping[str, float], group: RescalingGroup, change: float) -> Estimate:
    names = tuple(traces)
    row = {name: index for index, name in enumerate(group.names)}
    basis = np.stack([group.basis[row[name]] if name in row else np.zeros(group.dimension) for name in names])
    solved = minimise(np.array([traces[name] for name in names]), basis)
    return Estimate(
        solved.value,
        parts=dict(zip(names, solved.terms.tolist(), strict=True)),
        converged=solved.gap <= 10 * GAP,
        details={
            "method": solved.method,
            "gap": solved.gap if math.isfinite(solved.gap) else None,
            "attained": not solved.vanishing,
            "vanishing": ", ".join(names[block] for block in solved.vanishing),
            "dimension": group.dimension,
            "pinned": ", ".join(group.unknown),
            "function_change": change,
        },
    )
