"""The trace of the true Hessian: exact where that is certified, elsewhere Gauss-Newton plus a sampled residual.

H = G + R. tr G is exact, and tr R_b is 0 in each certified block. The trace of R in the others is sampled, see
`residual`: a control variate, whose variance vanishes with the slopes of the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Estimate
from sharpbench.core.requirements import spread_places
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.certificate import certificate
from sharpbench.curvature.confidence import PILOT, MeanEstimate, check_budget, check_precision, example_stderr
from sharpbench.curvature.example_forms import MAX_EXAMPLES, forms_example_stderr
from sharpbench.curvature.ggn import exact_diagonal, mean_traces, traces_by_example, weighted_traces_by_example
from sharpbench.curvature.ggn_precision import ggn_trace_estimate, has_many_columns
from sharpbench.curvature.residual import Residual, residual
from sharpbench.curvature.strata import sample_strata
from sharpbench.curvature.trace_estimators import DiagonalEstimate

PRECISION = 0.01
"""Both ends of the 95 % interval are within this share of the trace, by default."""
BUDGET = 1000
"""Products of the residual with a vector, over all examples, after which a precision is given up, by default."""
EXAMPLE_FORMS = 4, 16, 64
"""Vectors along which the residual is taken example by example: more where the fewer ones leave too much noise."""
MAX_EXACT_CALLS = 8
"""Calls that the exact diagonal of the residual may take, so that it is taken outright: the first samples take one for
each group, of fewer vectors."""
SKETCH_SHARE = 0.5
"""Of the precision, which is that of a sketched Gauss-Newton part; the residual's is the rest in quadrature."""


def trace_estimate(
    subject: Subject,
    *,
    generator: torch.Generator,
    precision: float | None = None,
    budget: int = BUDGET,
    scale: Params | None = None,
) -> Estimate:
    """The trace of the Hessian, with standard error, 95 % interval and the parts by parameter.

    Certified blocks are exact (see `certificate`). For the others the Gauss-Newton part is exact, and the residual
    H - G is sampled, or taken entry by entry where that is cheaper. With a scale, the trace is that of D H D,
    D = diag(scale): sum_j scale_j^2 H_jj.

    Args:
        generator: the only source of randomness.
        precision: sample until both ends of the interval are within this share of the value; None for PRECISION, and
            for an exact value where all blocks are certified. Otherwise also these are sketched where that is cheaper,
            see `ggn_trace_estimate`; and without a scale the Gauss-Newton part is, where outputs at many positions
            have more than MAX_EXACT_COLUMNS columns.
        budget: products of the residual with a vector, over all examples; after them the precision is given up, and
            the estimate is not `converged`. At least PILOT.
        scale: a tensor for each parameter, of its shape.
    Returns:
        An Estimate; stderr is 0.0 where nothing is sampled. `details.products` counts products with the residual, each
        over all examples.

    Cost: that of `exact_traces`, plus two to three gradients per product.

    >>> estimate = curvature.trace_estimate(subject, generator=torch.Generator().manual_seed(0))
    >>> round(estimate.value, 9), estimate.stderr, estimate.details["method"]
    (5.0, 0.0, 'exact')
    """
    wanted = PRECISION if precision is None else precision
    check_precision(wanted, budget)
    obstacles = {name: found for name, found in subject.once(certificate).items() if found}
    many = scale is None and has_many_columns(subject)
    if not obstacles and scale is None and (precision is not None or many):
        found = ggn_trace_estimate(subject, generator=generator, precision=wanted)
        return replace(found, details={**found.details, "certified": 1.0})
    if many:
        return _trace_with_sketch(subject, tuple(obstacles), wanted, budget, generator)
    by_example = subject.once(traces_by_example) if scale is None else _weighted_by_example(subject, scale)
    parts = mean_traces(subject, by_example)
    exact = sum(parts.values())
    details: dict[str, Scalar] = {
        "certified": 1 - sum(subject.params[name].numel() for name in obstacles) / subject.size,
        "operators": ", ".join(sorted({operator for found in obstacles.values() for operator in found})),
        "ggn-trace": exact,
    }
    if not obstacles:
        return Estimate(
            exact,
            parts=parts,
            parts_stderr=dict.fromkeys(parts, 0.0),
            stderr_examples=example_stderr(by_example.sum(1), shares=subject.shares),
            details={"method": "exact", **details},
        )
    rest = residual(subject, tuple(obstacles), scale)
    sampled = _residual_trace(rest, exact, generator=generator, precision=wanted, budget=budget)
    return Estimate(
        sampled.total.value,
        stderr=sampled.total.stderr,
        stderr_examples=_example_stderr(rest, by_example.sum(1), subject.shares, generator),
        interval=sampled.total.interval,
        parts={name: part + sampled.parts.get(name, 0.0) for name, part in parts.items()},
        parts_stderr={name: sampled.stderrs.get(name, 0.0) for name in parts},
        probes=sampled.probes,
        converged=not sampled.probes or sampled.total.within(wanted),
        details={
            "method": f"gauss-newton + {sampled.method}",
            "products": sampled.products,
            **details,
        },
    )


def _trace_with_sketch(
    subject: Subject, obstacles: tuple[str, ...], precision: float, budget: int, generator: torch.Generator
) -> Estimate:
    """The trace where the Gauss-Newton part is sketched as well: both errors are added in quadrature."""
    known = ggn_trace_estimate(subject, generator=generator, precision=SKETCH_SHARE * precision)
    rest = residual(subject, obstacles, None)
    left = math.sqrt(1 - SKETCH_SHARE**2) * precision
    sampled = _residual_trace(rest, known.value, generator=generator, precision=left, budget=budget)
    value = sampled.total.value
    half = math.hypot(_half_width(known.value, known.interval), _half_width(value, sampled.total.interval))
    certified = 1 - sum(subject.params[name].numel() for name in obstacles) / subject.size
    return Estimate(
        value,
        stderr=math.hypot(known.stderr or 0.0, sampled.total.stderr),
        interval=(value - half, value + half),
        parts={name: part + sampled.parts.get(name, 0.0) for name, part in known.parts.items()},
        probes=known.probes + sampled.probes,
        converged=half <= precision * abs(value),
        details={
            "method": f"gauss-newton {known.details['method']} + {sampled.method}",
            "columns": known.details["columns"],
            "products": sampled.products,
            "certified": certified,
            "ggn-trace": known.value,
        },
    )


def _half_width(value: float, interval: tuple[float, float] | None) -> float:
    """The larger distance of an interval's ends from the value; 0 of an exact value."""
    return 0.0 if interval is None else max(value - interval[0], interval[1] - value)


@dataclass(frozen=True, slots=True)
class _ResidualTrace:
    """total: with the part that is known. parts, stderrs: of the residual only. products: each over all examples."""

    total: MeanEstimate
    parts: dict[str, float]
    stderrs: dict[str, float]
    probes: int
    products: float

    @property
    def method(self) -> str:
        return "residual probes" if self.probes else "residual diagonal"


def _residual_trace(
    rest: Residual, known: float, *, generator: torch.Generator, precision: float, budget: int
) -> _ResidualTrace:
    """The trace of the residual, sampled, or exact where that takes no longer, or no more calls than a pilot."""
    spent = 0.0
    if rest.size > PILOT and rest.exact_calls > min(MAX_EXACT_CALLS, len(rest.groups)):
        found = sample_strata(
            rest.strata(generator), known=known, precision=precision, budget=budget, exact_cost=rest.exact_cost
        )
        if not found.exact_instead:
            parts, stderrs = (
                dict(zip(rest.block, each.tolist(), strict=True)) for each in (found.means(), found.stderrs())
            )
            return _ResidualTrace(found.total, parts, stderrs, found.drawn, found.cost)
        spent = found.cost
    parts = {name: float(value.sum()) for name, value in rest.diagonal().items()}
    value = known + sum(parts.values())
    return _ResidualTrace(MeanEstimate(value, 0.0, (value, value)), parts, {}, 0, spent + rest.size)


def hessian_diagonal(subject: Subject, *, samples: int, generator: torch.Generator) -> DiagonalEstimate:
    """The diagonal of the Hessian by parameter, with standard errors: exact for Gauss-Newton, sampled for the residual.

    Args:
        samples: products of the residual with random vectors, over all examples, at least 2; as many as there are
            parameters without a certificate give the exact diagonal instead.
        generator: the only source of randomness, on the CPU.

    Cost: that of `exact_diagonal`, plus two to three gradients per sample.

    >>> found = curvature.hessian_diagonal(subject, samples=2, generator=torch.Generator().manual_seed(0))
    >>> found.values["bias"], found.probes
    (tensor([0.2500, 0.2500], dtype=torch.float64), 0)
    """
    check_budget(samples)
    values = {name: value.clone() for name, value in subject.once(exact_diagonal).items()}
    stderr = {name: torch.zeros_like(value) for name, value in values.items()}
    obstacles = tuple(name for name, found in subject.once(certificate).items() if found)
    if not obstacles:
        return DiagonalEstimate(values, stderr, 0)
    rest = residual(subject, obstacles)
    exact = rest.size <= samples
    mean, variance = (rest.diagonal(), None) if exact else rest.sample_diagonal(samples, generator)
    for name, value in mean.items():
        values[name] += value.to(values[name].dtype)
        if variance is not None:
            stderr[name] = variance[name].sqrt().to(stderr[name].dtype)
    return DiagonalEstimate(values, stderr, 0 if exact else samples * len(rest.groups))


def weighted_traces(subject: Subject, scale: Params) -> dict[str, float]:
    """The exact sum_j scale_j^2 G_jj of each parameter, for the Gauss-Newton matrix G.

    Args:
        scale: a tensor for each parameter, of its shape.

    Cost: about that of `exact_diagonal`.

    >>> twice = {name: torch.full_like(value, 2.0) for name, value in subject.params.items()}
    >>> {name: round(trace, 9) for name, trace in curvature.weighted_traces(subject, twice).items()}
    {'weight': 18.0, 'bias': 2.0}
    """
    return mean_traces(subject, _weighted_by_example(subject, scale))


def adaptive_traces_by_example(subject: Subject) -> Tensor:
    """sum_j theta_j^2 G_jj by example and parameter, [n, parameters].

    >>> ones = {name: torch.ones_like(value) for name, value in subject.params.items()}
    >>> curvature.adaptive_traces_by_example(subject.with_params(ones)).round(decimals=9)  # p = 1/2, as at 0
    tensor([[4.5000, 0.5000]], dtype=torch.float64)
    """
    return weighted_traces_by_example(subject, subject.params)


def _weighted_by_example(subject: Subject, scale: Params) -> Tensor:
    if scale is subject.params:
        return subject.once(adaptive_traces_by_example)
    return weighted_traces_by_example(subject, scale)


def _example_stderr(rest: Residual, exact: Tensor, shares: Tensor | None, generator: torch.Generator) -> float | None:
    """Over examples: of the exact part [n] plus the residual's forms along a few vectors of its own.

    None where torch's derivative of single examples is not finite, as that of an orthogonal parametrisation.
    """
    if len(exact) < 2:
        return None
    places = spread_places(len(exact), MAX_EXAMPLES)
    found = torch.zeros(len(places), 0, dtype=torch.float64)
    for count in EXAMPLE_FORMS:
        more = rest.draw_forms(places.to(rest.subject.device), count - found.shape[1], generator)
        found = torch.cat((found, more), 1)
        if not bool(found.isfinite().all()):
            return None
        counted = None if shares is None else shares.cpu()[places]
        stderr = forms_example_stderr(found, exact=exact[places], shares=counted)
        if stderr is not None:
            return stderr * math.sqrt(len(places) / len(exact))
    return None
