"""Hutchinson's estimator of the trace of the Hessian."""

from __future__ import annotations

import math

import torch
from scipy.stats import t as student

from sharpbench.contract import Estimate
from sharpbench.curvature.probes import signs
from sharpbench.curvature.products import hvp
from sharpbench.subject import Subject

CHUNK = 8
"""Probes that are vmapped together."""


def hutchinson_trace(subject: Subject, *, samples: int, generator: torch.Generator) -> Estimate:
    """(1/m) sum_v v^T H v over m = `samples` random sign vectors v, with standard error and 95 % interval.

    Unbiased; the variance of one sample is 2 (|H|_F^2 - sum_j H_jj^2). The interval is Student's over the
    samples. `parts` are the shares v_b^T (H v)_b of the parameters. (Hutchinson 1990.) About four gradients
    a probe.
    """
    draws = []
    for start in range(0, samples, CHUNK):
        count = min(CHUNK, samples - start)
        probes = {name: signs(value, count, generator) for name, value in subject.params.items()}
        products = torch.func.vmap(lambda probe: hvp(subject, probe))(probes)
        draws.append(torch.stack([(probes[name] * products[name]).flatten(1).sum(1) for name in probes], 1))
    shares = torch.cat(draws).double()  # [m, parameters]
    totals = shares.sum(1)
    stderr = float(totals.std()) / math.sqrt(samples)
    half = float(student.ppf(0.975, samples - 1)) * stderr
    value = float(totals.mean())
    return Estimate(
        value,
        stderr=stderr,
        interval=(value - half, value + half),
        parts=dict(zip(subject.params, shares.mean(0).tolist(), strict=True)),
        probes=samples,
        details={"method": "hutchinson"},
    )
