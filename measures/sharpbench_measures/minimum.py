"""Minimum sharpness: the trace of the Hessian, minimised over all rescalings that preserve the function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from sharpbench import Estimate, InvalidInput, Invariance, Measure, NotApplicable, Subject
from sharpbench.curvature import DENSE_LIMIT, certificate, reference_diagonal, reference_partial_traces
from sharpbench.symmetry import (
    Float64Check,
    FullGroup,
    as_arrays,
    diagonal_for,
    full_group_of,
    group_of,
    minimise_full,
    minimum_example_stderr,
    minimum_trace,
    relative_change,
    rounding_bound,
)
from sharpbench_measures.citations import IBAYASHI

EXAMPLES = 2
"""Examples for which matrices between queries and keys must keep the function."""


@dataclass(frozen=True)
class Minimum(Measure):
    """min_u sum_j H_jj exp(-2 s_j(u)): the smallest Hessian trace of any rescaled network.

    H_jj is the diagonal of the Hessian of the mean loss, biases included (of the Gauss-Newton matrix where the
    network is not certified piecewise affine; details.matrix says which), and s(u) the log-scales of the network's
    rescaling group, read off its graph.

    scope:
        layer: one scale per parameter tensor (or per part of a fused one). For a chain of layers this is the
            paper's Definition 1; without biases its Theorem 1, L (prod_l tr H_l)^(1/L), which is what the solve
            returns there in closed form. Elsewhere Newton's method, with a duality gap in the record.
        unit: one scale per channel or hidden unit, also within attention heads: the minimum over a larger group,
            so never above that of layers, and unchanged when single units are rescaled. Newton's method with
            conjugate gradients; the record has the relative gradient and the squared Newton decrement.
        full: units, and the invertible matrices that attention allows: between queries and keys and between values and
            output projection of each head, and between two linear layers with nothing in between (see
            `symmetry.full_group`; details.blocks counts them). Never above `unit`, and unchanged under attention-gl. In
            closed form for each matrix, by turns with the scales.

    Operators that the group does not know pin their tensors: the value can then only be larger. If a random element of
    the group changes the function on the examples, the measure is not applicable. Terms that can be driven to 0 make
    the infimum one that is not attained; the value is the infimum, and details.vanishing names the terms. Where a term
    is negative, as with a loss that is not convex in the outputs, there is no minimum, and the measure does not apply.

    Deviation from the paper: it minimises by 10,000 steps of SGD, which stop above the minimum.
    Cost: that of the exact traces, or of the exact diagonal for scope=unit; the solve takes milliseconds to seconds.
    """

    name: ClassVar[str] = "minimum"
    title: ClassVar[str] = "minimum sharpness"
    family: ClassVar[str] = "rescaled curvature"
    source: ClassVar[str] = "Ibayashi, Hamaguchi, Imaizumi 2021, Minimum Sharpness, Definition 1, Theorem 1"
    version: ClassVar[int] = 3
    oracle_limit: ClassVar[int | None] = DENSE_LIMIT
    definition: ClassVar[str] = "min_u sum_j H_jj exp(-2 s_j(u)), s(u) the log-scales of the rescaling group"
    reduction: ClassVar[str] = "mean over examples, natural logarithm; sum over parameters"
    included: ClassVar[str] = "all parameters under measurement, biases included"
    cost: ClassVar[str] = "C - 1 backward passes, and a solve of milliseconds to seconds"
    bibtex: ClassVar[str] = IBAYASHI
    scope: Literal["layer", "unit", "full"] = "layer"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure; the value is deterministic, `details.function_change` is that of a random element, and for
        scope=full that of the network at the minimum."""
        if self.scope == "full":
            return _minimum_over_full_group(subject, generator)
        examples, _ = next(subject.batches)
        try:
            group = group_of(subject.graph, set(subject.params), scope=self.scope)
            change = group.verify_elements(
                lambda params: subject.apply(params, examples), subject.params, [group.random_element(generator)]
            )
        except InvalidInput as error:
            raise NotApplicable(f"no rescaling group: {error}") from error
        certified = not any(subject.once(certificate).values())
        try:
            solved = minimum_trace(group, diagonal_for(group, subject))
        except InvalidInput as error:
            raise NotApplicable(f"no minimum over rescalings: {error}") from error
        return Estimate(
            solved.value,
            parts=solved.parts,
            converged=solved.converged,
            stderr_examples=minimum_example_stderr(group, subject, solved),
            details={
                "matrix": "hessian" if certified else "gauss-newton",
                "method": solved.method,
                "gap": solved.gap if math.isfinite(solved.gap) else None,
                "gradient": solved.gradient,
                "attained": None if solved.vanishing is None else not solved.vanishing,
                "vanishing": solved.vanishing,
                "dimension": group.dimension,
                "pinned": ", ".join(group.unknown_operators),
                "function_change": change,
            },
        )

    def exact(self, subject: Subject) -> float | None:
        """The same minimum over the reference diagonal; None if that is of another matrix."""
        if any(subject.once(certificate).values()):
            return None
        if self.scope == "full":
            full = find_full_group(subject, torch.Generator().manual_seed(0))
            return minimise_full(subject, full, reference_partial_traces).value
        group = group_of(subject.graph, set(subject.params), scope=self.scope)
        return minimum_trace(group, as_arrays(subject.once(reference_diagonal))).value

    def invariances(self) -> frozenset[Invariance]:
        """A rescaling of single units changes the block traces and with them the minimum over layers. A rotation keeps
        the block traces and mixes the units of a head."""
        if self.scope == "full":
            return frozenset({"layer", "unit", "permutation", "attention-rotation", "attention-gl"})
        return frozenset({"layer", "permutation", "unit" if self.scope == "unit" else "attention-rotation"})


def find_full_group(subject: Subject, generator: torch.Generator) -> FullGroup:
    """The full group of the measured parameters. Raises NotApplicable where the network cannot be followed."""
    try:
        some = subject.examples(EXAMPLES)
        check = Float64Check.of(subject.module, some, generator=generator, forward=subject.forward)
        return full_group_of(subject.graph, set(subject.params), check, generator)
    except InvalidInput as error:
        raise NotApplicable(f"no symmetry group: {error}") from error


def _minimum_over_full_group(subject: Subject, generator: torch.Generator) -> Estimate:
    group = find_full_group(subject, generator)
    certified = not any(subject.once(certificate).values())
    try:
        solved = minimise_full(subject, group)
    except InvalidInput as error:
        raise NotApplicable(f"no minimum over matrices: {error}") from error
    examples, _ = next(subject.batches)
    like = {name: solved.params[name].to(value) for name, value in subject.params.items()}
    with torch.no_grad():
        change = relative_change(subject.apply(subject.params, examples), subject.apply(like, examples))
    if not change <= rounding_bound(subject.params.values()):
        raise NotApplicable(f"no symmetry group: the network at the minimum has other outputs, by {change:.1e}")
    return Estimate(
        solved.value,
        parts=solved.parts,
        converged=solved.converged,
        details={
            "matrix": "hessian" if certified else "gauss-newton",
            "method": "closed form by turns with newton-cg" if group.blocks else "newton-cg",
            "gap": solved.gap if math.isfinite(solved.gap) else None,
            "gradient": solved.gradient,
            "attained": None if solved.vanishing is None else not solved.vanishing,
            "vanishing": solved.vanishing,
            "dimension": group.dimension,
            "blocks": group.words,
            "restricted": group.restricted,
            "pinned": ", ".join(group.units.unknown_operators),
            "turns": solved.steps,
            "passes": solved.passes,
            "function_change": change,
        },
    )
