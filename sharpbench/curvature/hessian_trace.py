"""The trace of the true Hessian: exact where that is certified, elsewhere Gauss-Newton plus a sampled residual.

H = G + R with R = (1/n) sum_i sum_c (dl/df_ic) D^2 f_ic. tr G is exact; tr R_b is 0 in each certified block and
is sampled in each other block b by itself, as the mean of r_b(v) = v^T R_bb v over random signs v: a control
variate, since only the residual's off-diagonal entries within a block make variance. R itself is never formed
and nothing is subtracted: r_b(v) is the second derivative of the logits along v, weighted by the loss's slope.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sharpbench.core.batch import Inputs
from sharpbench.core.measure import Estimate
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.certificate import certificate
from sharpbench.curvature.confidence import LIMIT, check_budget, example_stderr, mean_of, next_round
from sharpbench.curvature.example_forms import agree_on_average, count_forms, interaction, residual_by_example
from sharpbench.curvature.ggn import mean_traces, traces_by_example, weighted_traces_by_example
from sharpbench.curvature.products import map_vectors
from sharpbench.curvature.soundness import sound_method
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
    by_example = subject.once(traces_by_example) if scale is None else _weighted_by_example(subject, scale)
    traces = mean_traces(subject, by_example)
    exact = sum(traces.values())
    scales = scale or {}
    firsts: Params = {}

    def forms(name: str, count: int) -> Tensor:
        probes = _draw(subject, name, count, generator, scales.get(name))
        firsts.setdefault(name, probes[: count_forms(samples)].clone())
        return _forms(subject, name, probes)

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
        stderr_examples=_example_stderr(subject, by_example.sum(1), firsts, draws),
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


def _example_stderr(subject: Subject, exact: Tensor, firsts: Params, draws: dict[str, Tensor]) -> float | None:
    """Over examples: of the exact part [n] plus, of each sampled block, the forms along its first few probes.

    What the choice of these probes adds to the spread between examples is taken out of it.
    """
    if len(exact) < 2:
        return None
    total, noise = exact.clone(), 0.0
    for name, probes in firsts.items():
        found = residual_by_example(subject, name, probes)
        if found is None or not agree_on_average(found, draws[name][: len(probes)]):
            return None
        total += found.mean(1)
        noise += interaction(found)
    return example_stderr(total, noise=math.sqrt(noise / len(exact)))


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
    return _forms(subject, name, _draw(subject, name, samples, generator, scale))


def _draw(subject: Subject, name: str, samples: int, generator: torch.Generator, scale: Tensor | None) -> Tensor:
    probes = draw_signs(subject.params[name], samples, generator)
    return probes if scale is None else probes * scale


def _forms(subject: Subject, name: str, probes: Tensor) -> Tensor:
    """The same for given vectors `probes` [samples, ...] of the block's shape."""
    block = subject.params[name]

    method = sound_method(subject)
    network = method.network(subject)

    def batch(inputs: Inputs, targets: Tensor) -> Tensor:
        def logits(shift: Tensor, probe: Tensor) -> Tensor:
            return network({**subject.params, name: block + shift * probe}, inputs)

        start = block.new_zeros(())
        slope = torch.func.grad(lambda outputs: subject.criterion(outputs, targets).mean())(
            logits(start, torch.zeros_like(block)).detach()
        )

        def form(probe: Tensor) -> Tensor:
            def weighted(shift: Tensor) -> Tensor:
                total: Tensor = (slope * logits(shift, probe)).sum()
                return total

            return method.second(weighted, start)

        with method.operators():
            return map_vectors(form, probes, 0 if method.plain else TOGETHER).double()

    drawn: Tensor = subject.mean(batch)
    return drawn


def _drawn(draws: dict[str, Tensor]) -> int:
    return sum(len(each) for each in draws.values())
