"""The trace of the true Hessian: exact where that is certified, elsewhere Gauss-Newton plus a sampled residual.

H = G + R with R = (1/n) sum_i sum_c (dl/df_ic) D^2 f_ic. tr G is exact; tr R_b is 0 in each certified block and
is sampled in each other block b by itself, as the mean of r_b(v) = v^T R_bb v over random signs v: a control
variate, since only the residual's off-diagonal entries within a block make variance. R itself is never formed
and nothing is subtracted: r_b(v) is the second derivative of the logits along v, weighted by the loss's slope.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sharpbench.core.measure import Estimate
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.certificate import certificate
from sharpbench.curvature.confidence import LIMIT, check_budget, mean_of, next_round
from sharpbench.curvature.ggn import exact_diagonal, exact_traces
from sharpbench.curvature.products import map_vectors
from sharpbench.curvature.trace_estimators import draw_signs

ROUND = 32
"""Probes a block in the first round: enough for a standard error that can be trusted."""
TOGETHER = 8
"""Probes of one block that are vmapped together."""


def trace_estimate(
    subject: Subject,
    *,
    generator: torch.Generator,
    samples: int = ROUND,
    precision: float | None = None,
    scale: Params | None = None,
) -> Estimate:
    """The trace of the Hessian, with standard error, 95 % interval and the parts by parameter.

    Certified blocks are exact (see `certificate`). For the others the Gauss-Newton part is exact and the residual H - G
    is sampled. With a scale, the trace is that of D H D, D = diag(scale): sum_j scale_j^2 H_jj.

    Args:
        generator: the only source of randomness.
        samples: probes for each block that is not certified, at least 2.
        precision: continue until both ends of the interval are within this share of the value, each round in the block
            with the largest standard error. At LIMIT probes the estimate is given up and is not `converged`.
        scale: a tensor for each parameter, of its shape.
    Returns:
        An Estimate; stderr is 0.0, and nothing is drawn, where every block is certified.

    Cost: that of `exact_traces`, plus three to four forward passes per probe.

    >>> estimate = curvature.trace_estimate(subject, generator=torch.Generator().manual_seed(0))
    >>> round(estimate.value, 9), estimate.stderr, estimate.details["method"]
    (5.0, 0.0, 'exact')
    """
    check_budget(samples, precision)
    obstacles = {name: found for name, found in subject.once(certificate).items() if found}
    traces = subject.once(exact_traces) if scale is None else weighted_traces(subject, scale)
    exact = sum(traces.values())
    scales = scale or {}

    def forms(name: str, count: int) -> Tensor:
        return residual_forms(subject, name, count, generator, scale=scales.get(name))

    draws = {name: forms(name, samples) for name in obstacles}
    found = mean_of(draws.values(), exact)
    while draws and precision is not None and not found.within(precision) and _drawn(draws) < LIMIT:
        widest = max(draws, key=lambda name: float(draws[name].var()) / len(draws[name]))
        more = next_round(samples, len(draws[widest]))
        draws[widest] = torch.cat((draws[widest], forms(widest, more)))
        found = mean_of(draws.values(), exact)
    parts = {name: part + (float(draws[name].mean()) if name in draws else 0.0) for name, part in traces.items()}
    return Estimate(
        found.value,
        stderr=found.stderr,
        interval=found.interval,
        parts=parts,
        probes=_drawn(draws),
        converged=precision is None or found.within(precision),
        details={
            "method": "gauss-newton + hutchinson residual" if draws else "exact",
            "certified": 1 - sum(subject.params[name].numel() for name in obstacles) / subject.size,
            "operators": ", ".join(sorted({operator for found in obstacles.values() for operator in found})),
            "ggn-trace": exact,
        },
    )


def weighted_traces(subject: Subject, scale: Params) -> dict[str, float]:
    """The exact sum_j scale_j^2 G_jj of each parameter, for the Gauss-Newton matrix G.

    Args:
        scale: a tensor for each parameter, of its shape.

    Cost: that of `exact_traces`.

    >>> twice = {name: torch.full_like(value, 2.0) for name, value in subject.params.items()}
    >>> {name: round(trace, 9) for name, trace in curvature.weighted_traces(subject, twice).items()}
    {'weight': 18.0, 'bias': 2.0}
    """
    diagonal = subject.once(exact_diagonal)
    return {name: float((value.double() * scale[name].double().square()).sum()) for name, value in diagonal.items()}


def residual_forms(
    subject: Subject, name: str, samples: int, generator: torch.Generator, scale: Tensor | None = None
) -> Tensor:
    """Samples v^T R_bb v [samples], float64, for random signs v in the block b of a parameter; R = H - G.

    Args:
        name: the parameter.
        samples: vectors v, drawn from `generator`.
        scale: a tensor of the parameter's shape, by which each v is multiplied entry by entry.

    Cost: three to four forward passes per sample.

    >>> forms = curvature.residual_forms(subject, "weight", 3, torch.Generator().manual_seed(0))
    >>> float(forms.abs().max()) < 1e-12  # H = G
    True
    """
    block = subject.params[name]
    probes = draw_signs(block, samples, generator)
    if scale is not None:
        probes = probes * scale

    def batch(inputs: Tensor, targets: Tensor) -> Tensor:
        def logits(shift: Tensor, probe: Tensor) -> Tensor:
            return subject.apply({**subject.params, name: block + shift * probe}, inputs)

        start = block.new_zeros(())
        slope = torch.func.grad(lambda outputs: subject.criterion(outputs, targets).mean())(
            logits(start, torch.zeros_like(block))
        )

        def form(probe: Tensor) -> Tensor:
            def weighted(shift: Tensor) -> Tensor:
                total: Tensor = (slope * logits(shift, probe)).sum()
                return total

            second: Tensor = torch.func.grad(torch.func.grad(weighted))(start)
            return second

        return map_vectors(form, probes, TOGETHER).double()

    drawn: Tensor = subject.mean(batch)
    return drawn


def _drawn(draws: dict[str, Tensor]) -> int:
    return sum(len(each) for each in draws.values())
