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
    """The trace of the Hessian of the mean loss, with standard error, 95 % interval and parts by parameter.

    With a scale, a tensor for each parameter, that of D H D, D = diag(scale): sum_j scale_j^2 H_jj.

    samples: probes for each uncertified block, at least 2. precision: go on until the ends of the interval are
    this share of the value away, each round in the block with the largest standard error; given up (and not
    `converged`) at LIMIT probes. A probe costs three to four forward passes. stderr is 0.0 where the
    certificate is complete: then nothing is drawn.
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
    """sum_j scale_j^2 G_jj of each parameter, exactly, for the Gauss-Newton matrix G."""
    diagonal = subject.once(exact_diagonal)
    return {name: float((value.double() * scale[name].double().square()).sum()) for name, value in diagonal.items()}


def residual_forms(
    subject: Subject, name: str, samples: int, generator: torch.Generator, scale: Tensor | None = None
) -> Tensor:
    """v^T R_bb v [samples] in float64 for random signs v in the block of parameter `name`; mean over examples.

    scale: of the block's shape, by which every v is multiplied, entry by entry.
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
