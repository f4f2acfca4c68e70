"""Hutchinson's estimators: of the trace, with an interval that a precision can be asked of, and of the diagonal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.stats import t as student
from torch import Tensor

from sharpbench.contract import Estimate
from sharpbench.curvature.implicit import CHUNK, Kind, matrix, unflatten
from sharpbench.curvature.probes import Distribution, draw
from sharpbench.errors import InvalidInput
from sharpbench.subject import Params, Subject

LEAST = 30
"""Probes before a precision may stop the sampling: earlier, a small standard error is luck."""


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
    The interval is Student's over the samples. `parts` are the shares v_b^T (A v)_b of the parameters. About four
    gradients a probe. (Hutchinson 1990.) precision: stop, at 30 probes or later and at `samples` at last, once the
    half width of the interval is below this share of the value.
    """
    if samples < 2 or (precision is not None and not (precision > 0 and samples >= LEAST)):
        raise InvalidInput(
            f"samples={samples}, precision={precision}: need at least 2 samples, and {LEAST} with a precision above 0"
        )
    operator = matrix(subject, kind)
    like = operator.like.new_empty(operator.size)
    sizes = [value.numel() for value in subject.params.values()]
    shares = torch.empty(0, len(sizes), dtype=torch.float64)
    while len(shares) < samples and not (precision is not None and _is_precise(shares.sum(1), precision)):
        probes = draw(like, min(CHUNK, samples - len(shares)), generator, distribution)
        forms = probes.double() * (operator @ probes.T).T.double()
        some = torch.stack([part.sum(1) for part in forms.split(sizes, dim=1)], 1).cpu()
        shares = torch.cat((shares, some))
    value, stderr, half = _interval(shares.sum(1))
    return Estimate(
        value,
        stderr=stderr,
        interval=(value - half, value + half),
        parts=dict(zip(subject.params, shares.mean(0).tolist(), strict=True)),
        probes=len(shares),
        converged=precision is None or _is_precise(shares.sum(1), precision),
        details={"method": "hutchinson"},
    )


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
    for start in range(0, samples, CHUNK):
        probes = draw(like, min(CHUNK, samples - start), generator)
        products = (probes * (operator @ probes.T).T).double()
        total += products.sum(0)
        squares += products.square().sum(0)
    mean = total / samples
    variance = ((squares - samples * mean.square()) / (samples - 1)).clamp_min(0) / samples
    stderr = variance.sqrt().to(like.dtype)
    return DiagonalEstimate(
        unflatten(subject.params, mean.to(like.dtype)), unflatten(subject.params, stderr), probes=samples
    )


def _is_precise(samples: Tensor, precision: float) -> bool:
    if len(samples) < LEAST:
        return False
    value, _, half = _interval(samples)
    return half <= precision * abs(value)


def _interval(samples: Tensor) -> tuple[float, float, float]:
    """Mean, standard error and half width of the 95 % interval."""
    stderr = float(samples.std()) / math.sqrt(len(samples))
    return float(samples.mean()), stderr, float(student.ppf(0.975, len(samples) - 1)) * stderr
