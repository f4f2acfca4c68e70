"""Displacement: means over the examples at weights that are moved, by flat vectors [P] in the parameters' order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from sharpbench.core.measure import NotApplicable
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.implicit import unflatten
from sharpbench.curvature.mapping import mapped, together
from sharpbench.curvature.probes import draw

FEW_BYTES = 64 * 2**20
"""On a CPU displacements go together below this: convolutions with weights of their own for each are then slower."""

Statistic = Callable[[Tensor, Tensor], Tensor]
"""Logits [B, C], targets -> values [B], one an example."""


def displaced(params: Params, displacement: Tensor) -> Params:
    """theta + d."""
    pieces = unflatten(params, displacement)
    return {name: value + pieces[name].to(value.dtype) for name, value in params.items()}


def displaced_loss(subject: Subject, displacement: Tensor) -> Tensor:
    """L(theta + d), a scalar in float64: what a loss in float32 loses in a difference is lost example by example,
    and averages out. Differentiable in d."""
    params = displaced(subject.params, displacement)
    return subject.mean(
        lambda inputs, targets: subject.criterion(subject.apply(params, inputs), targets).double().mean()
    )


def finite(value: float, what: str) -> float:
    """`value`, or NotApplicable where displaced weights have made `what` infinite or no number."""
    if not math.isfinite(value):
        raise NotApplicable(f"{what} is {value} at the displaced weights; choose a smaller displacement")
    return value


def displaced_means(subject: Subject, displacements: Iterable[Tensor], of: Statistic | None = None) -> Tensor:
    """(1/n) sum_i of(f(theta + d, x_i), y_i) for every d of m displacements [P]: [m], float64, on the CPU.

    of: the criterion by default. As many displacements are taken at a time as fit; one forward pass each.
    NotApplicable where one, or its third power, of which intervals are made, is not finite.
    """
    statistic = of or subject.criterion
    device = next(iter(subject.params.values())).device
    count = together(subject, FEW_BYTES) if device.type == "cpu" else together(subject)
    rows, found = iter(displacements), []
    while chunk := list(islice(rows, count)):
        found.append(_means(subject, torch.stack(chunk), statistic))
    means = torch.cat(found).cpu()
    finite(float(means.abs().pow(3).sum()), "the sum of the cubed losses")
    return means


def _means(subject: Subject, displacements: Tensor, of: Statistic) -> Tensor:
    def batch(inputs: Tensor, targets: Tensor) -> Tensor:
        def value(displacement: Tensor) -> Tensor:
            logits = subject.apply(displaced(subject.params, displacement), inputs)
            return of(logits, targets).double().mean()

        return mapped(value, displacements, len(displacements))

    with torch.no_grad():
        return subject.mean(batch)


def directions(
    subject: Subject, count: int, generator: torch.Generator, distribution: Literal["gaussian", "uniform"] = "gaussian"
) -> Iterator[Tensor]:
    """`count` random vectors [P]: z ~ N(0, I), or uniform on [-1, 1]^P.

    Drawn one by one, on the CPU in float64: how many are then taken at a time does not change them.
    """
    like = next(iter(subject.params.values())).new_empty(subject.size)
    for _ in range(count):
        if distribution == "gaussian":
            yield draw(like, 1, generator, "gaussian")[0]
        else:
            yield (2 * torch.rand(subject.size, generator=generator, dtype=torch.float64) - 1).to(like)
