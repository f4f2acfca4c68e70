"""The trace of the true Hessian: exact where that is certified, elsewhere Gauss-Newton plus a sampled residual.

H = G + R with R = (1/n) sum_i sum_c (dl/df_ic) D^2 f_ic. tr G is exact; tr R_b is 0 in each certified block and
is sampled in each other block b by itself, as the mean of r_b(v) = v^T R_bb v over random signs v: a control
variate, since only the residual's off-diagonal entries within a block make variance. R itself is never formed
and nothing is subtracted: r_b(v) is the second derivative of the logits along v, weighted by the loss's slope.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.stats import t as student
from torch import Tensor

from sharpbench.contract import Estimate
from sharpbench.curvature.certificate import certificate
from sharpbench.curvature.probes import signs
from sharpbench.curvature.pullback import exact_traces
from sharpbench.errors import InvalidInput
from sharpbench.subject import Subject

ROUND = 32
"""Probes a block in the first round: enough for a standard error that can be trusted."""
LIMIT = 50_000
"""Probes after which a precision that was not reached is given up."""
CHUNK = 8


def trace_estimate(
    subject: Subject, *, generator: torch.Generator, samples: int = ROUND, precision: float | None = None
) -> Estimate:
    """The trace of the Hessian of the mean loss, with standard error, 95 % interval and parts by parameter.

    samples: probes for each uncertified block, at least 2. precision: go on until the half width of the interval
    is below this share of the value, each round in the block with the largest standard error; given up (and not
    `converged`) at LIMIT probes. A probe costs three to four forward passes. stderr is 0.0 where the
    certificate is complete: then nothing is drawn.
    """
    if samples < 2:
        raise InvalidInput(f"samples={samples} must be at least 2, or there is no standard error")
    if precision is not None and (samples < 30 or not precision > 0):
        raise InvalidInput(f"precision={precision} with samples={samples}: needs precision > 0 and samples >= 30")
    obstacles = {name: found for name, found in subject.once(certificate).items() if found}
    traces = subject.once(exact_traces)
    draws = {name: residual_forms(subject, name, samples, generator) for name in obstacles}
    value, stderr, half = _summary(traces, draws)
    while draws and precision is not None and half > precision * abs(value) and _drawn(draws) < LIMIT:
        widest = max(draws, key=lambda name: float(draws[name].var()) / len(draws[name]))
        more = max(samples, len(draws[widest]) // 4)
        draws[widest] = torch.cat((draws[widest], residual_forms(subject, widest, more, generator)))
        value, stderr, half = _summary(traces, draws)
    parts = {name: part + (float(draws[name].mean()) if name in draws else 0.0) for name, part in traces.items()}
    return Estimate(
        value,
        stderr=stderr,
        interval=(value - half, value + half),
        parts=parts,
        probes=_drawn(draws),
        converged=precision is None or half <= precision * abs(value),
        details={
            "method": "gauss-newton + hutchinson residual" if draws else "exact",
            "certified": 1 - sum(subject.params[name].numel() for name in obstacles) / subject.size,
            "operators": ", ".join(sorted({operator for found in obstacles.values() for operator in found})),
            "ggn-trace": sum(traces.values()),
        },
    )


def residual_traces(
    subject: Subject, names: Sequence[str], *, samples: int, generator: torch.Generator
) -> dict[str, tuple[float, float]]:
    """tr(H_b - G_b) of the blocks `names`, each with its standard error: what the exact Gauss-Newton traces lack."""
    draws = {name: residual_forms(subject, name, samples, generator) for name in names}
    return {name: (float(each.mean()), float(each.std()) / math.sqrt(samples)) for name, each in draws.items()}


def residual_forms(subject: Subject, name: str, samples: int, generator: torch.Generator) -> Tensor:
    """v^T R_bb v [samples] in float64 for random signs v in the block of parameter `name`; mean over examples."""
    block = subject.params[name]
    probes = signs(block, samples, generator)

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

        forms: Tensor = torch.func.vmap(form, chunk_size=CHUNK)(probes).double()
        return forms

    drawn: Tensor = subject.mean(batch)
    return drawn


def _drawn(draws: dict[str, Tensor]) -> int:
    return sum(len(each) for each in draws.values())


def _summary(traces: dict[str, float], draws: dict[str, Tensor]) -> tuple[float, float, float]:
    """Value, standard error and half width of the 95 % interval (Student's, with Welch's degrees of freedom)."""
    value = sum(traces.values()) + sum(float(each.mean()) for each in draws.values())
    variances = [(float(each.var()) / len(each), len(each) - 1) for each in draws.values()]
    total = sum(variance for variance, _ in variances)
    if total == 0:
        return value, 0.0, 0.0
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in variances)
    stderr = math.sqrt(total)
    return value, stderr, float(student.ppf(0.975, freedom)) * stderr
