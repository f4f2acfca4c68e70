"""Hutchinson's estimator: of the trace of the Hessian, and of what Gauss-Newton leaves of its blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.stats import t as student
from torch import Tensor

from sharpbench.contract import Estimate
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
        probes = {name: _signs(value, count, generator) for name, value in subject.params.items()}
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


def residual_traces(
    subject: Subject, names: Sequence[str], *, samples: int, generator: torch.Generator
) -> dict[str, tuple[float, float]]:
    """tr(H_b - G_b) of the blocks `names`, each with its standard error: what the exact Gauss-Newton traces lack.

    One block at a time, probes of signs on that block alone: only diagonal blocks count, and their variance
    vanishes with the residual. About four gradients a probe and block.
    """
    return {name: _residual(subject, name, samples, generator) for name in names}


def _residual(subject: Subject, name: str, samples: int, generator: torch.Generator) -> tuple[float, float]:
    block = subject.params[name]

    def loss_along(value: Tensor) -> Tensor:
        return subject.loss({**subject.params, name: value})

    def quadratic(probe: Tensor) -> Tensor:
        """v^T H_b v - v^T G_b v."""
        product: Tensor = torch.func.jvp(torch.func.grad(loss_along), (block,), (probe,))[1]
        total: Tensor = (product * probe).sum()
        return total - subject.mean(lambda inputs, targets: _gauss_newton(inputs, targets, probe))

    def _gauss_newton(inputs: Tensor, targets: Tensor, probe: Tensor) -> Tensor:
        forward = torch.func.jvp(
            lambda value: subject.apply({**subject.params, name: value}, inputs), (block,), (probe,)
        )

        def slope(logits: Tensor) -> Tensor:
            gradient: Tensor = torch.func.grad(lambda outputs: subject.criterion(outputs, targets).mean())(logits)
            return gradient

        curved: Tensor = torch.func.jvp(slope, (forward[0],), (forward[1],))[1]
        return (curved * forward[1]).sum()

    probes = _signs(block, samples, generator)
    draws = torch.cat([torch.func.vmap(quadratic)(chunk) for chunk in probes.split(CHUNK)]).double()
    return float(draws.mean()), float(draws.std()) / math.sqrt(samples)


def _signs(like: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` vectors of random signs [count, *like.shape], drawn on the CPU."""
    drawn = torch.randint(0, 2, (count, *like.shape), generator=generator) * 2 - 1
    return drawn.to(device=like.device, dtype=like.dtype)
