"""Hutchinson's estimators: of the trace, with an interval that a precision can be asked of, and of the diagonal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpbench.core.measure import Estimate
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.implicit import Kind, Matrix, matrix, unflatten
from sharpbench.curvature.interval import LIMIT, Mean, check, mean_of, next_round
from sharpbench.curvature.probes import Distribution, draw
from sharpbench.errors import InvalidInput


def hutchinson_trace(
    subject: Subject,
    *,
    samples: int,
    generator: torch.Generator,
    kind: Kind = "hessian",
    distribution: Distribution = "rademacher",
    precision: float | None = None,
) -> Estimate:
    """(1/m) sum_v v^T A v over m random vectors v, with standard error and 95 % interval.

    Unbiased; the variance of one sample is 2 (|A|_F^2 - sum_j A_jj^2) for signs, 2 |A|_F^2 for Gaussian vectors.
    The interval is over the samples. `parts` are the shares v_b^T (A v)_b of the parameters. About four gradients
    a probe. (Hutchinson 1990.) precision: `samples` are the first round, at least 30; go on, a quarter more each
    time, until the interval's ends are that share of the value away; given up (not `converged`) at LIMIT.
    """
    check(samples, precision)
    operator = matrix(subject, kind)
    like = operator.like.new_empty(operator.size)
    sizes = [value.numel() for value in subject.params.values()]

    def more(count: int) -> Tensor:
        """Shares [count, parameters] of new probes, so many products at a time."""
        drawn = []
        for start in range(0, count, operator.together):
            probes = draw(like, min(operator.together, count - start), generator, distribution)
            forms = probes.double() * (operator @ probes.T).T.double()
            drawn.append(torch.stack([part.sum(1) for part in forms.split(sizes, dim=1)], 1).cpu())
        return torch.cat(drawn)

    shares = more(samples)
    found = mean_of([shares.sum(1)])
    while precision is not None and not found.within(precision) and len(shares) < LIMIT:
        shares = torch.cat((shares, more(next_round(samples, len(shares)))))
        found = mean_of([shares.sum(1)])
    return Estimate(
        found.value,
        stderr=found.stderr,
        interval=found.interval,
        parts=dict(zip(subject.params, shares.mean(0).tolist(), strict=True)),
        probes=len(shares),
        converged=precision is None or found.within(precision),
        details={"method": "hutchinson"},
    )


def hutchinson_squared_norm(
    subject: Subject, *, samples: int, generator: torch.Generator, kind: Kind = "hessian"
) -> Mean:
    """(1/m) sum_v |A v|^2 over m random sign vectors v: unbiased for |A|_F^2 = tr A^2, Hutchinson's of A^2.

    With standard error and 95 % interval over the samples. One product, about four gradients, a probe.
    """
    check(samples)
    operator = matrix(subject, kind)
    like = operator.like.new_empty(operator.size)
    drawn = []
    for start in range(0, samples, operator.together):
        probes = draw(like, min(operator.together, samples - start), generator)
        drawn.append((operator @ probes.T).double().square().sum(0).cpu())
    return mean_of([torch.cat(drawn)])


def squared_norm(operator: Matrix) -> float:
    """|A|_F^2, exactly: one product a parameter, with every unit vector."""
    total = 0.0
    for places in torch.arange(operator.size, device=operator.like.device).split(operator.together):
        units = torch.nn.functional.one_hot(places, operator.size).to(operator.like)
        total += float((operator @ units.T).double().square().sum())
    return total


@dataclass(frozen=True, slots=True)
class DiagonalEstimate:
    """values: the estimated diagonal by parameter, shaped like it; stderr: its standard errors, likewise."""

    values: Params
    stderr: Params
    probes: int


def hutchinson_diagonal(
    subject: Subject, *, samples: int, generator: torch.Generator, kind: Kind = "hessian"
) -> DiagonalEstimate:
    """(1/m) sum_v v * (A v) over m random sign vectors: unbiased; entry j has variance sum_{i != j} A_ij^2 / m.

    (Bekas, Kokiopoulou, Saad 2007.) Entries may come out negative where the matrix has none that are.
    """
    if samples < 2:
        raise InvalidInput(f"samples={samples} must be at least 2, or there is no standard error")
    operator = matrix(subject, kind)
    like = operator.like.new_empty(operator.size)
    total = torch.zeros_like(like, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for start in range(0, samples, operator.together):
        probes = draw(like, min(operator.together, samples - start), generator)
        products = (probes * (operator @ probes.T).T).double()
        total += products.sum(0)
        squares += products.square().sum(0)
    mean = total / samples
    variance = ((squares - samples * mean.square()) / (samples - 1)).clamp_min(0) / samples
    stderr = variance.sqrt().to(like.dtype)
    return DiagonalEstimate(
        unflatten(subject.params, mean.to(like.dtype)), unflatten(subject.params, stderr), probes=samples
    )
