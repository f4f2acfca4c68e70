"""Displacement: means over the examples at weights that are moved, by flat vectors [P] in the parameters' order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from sharpbench.core.batch import Inputs
from sharpbench.core.measure import NotApplicable
from sharpbench.core.subject import Params, Subject
from sharpbench.curvature.products import flatten, map_vectors, unflatten, vectors_at_once
from sharpbench.curvature.trace_estimators import draw_probes

# Ellipsoids: how far each parameter may move in a neighbourhood of the weights, relative to their size or not.

Scaling = Literal["element", "filter", "none"]


def perturbation_scales(params: Params, scaling: Scaling, eta: float = 0.0) -> Tensor:
    """The scales c >= 0 [P] of a neighbourhood {e : |e / c|_p <= radius}; e_j = 0 where c_j = 0.

    Args:
        scaling: 'element': c = |theta| + eta. 'filter': for tensors of three or more axes the norm of each slice along
            the first axis, which is a convolution's filter, + eta; for others as 'element'. 'none': c = 1.

    Source: Kwon et al. 2021.

    >>> curvature.perturbation_scales({"w": torch.tensor([-2.0, 0.0])}, "element", eta=0.5)
    tensor([2.5000, 0.5000])
    """
    return torch.cat([_axis(value, scaling, eta).flatten() for value in params.values()])


def _axis(value: Tensor, scaling: Scaling, eta: float) -> Tensor:
    if scaling == "none":
        return torch.ones_like(value)
    if scaling == "filter" and value.ndim >= 3:
        norms: Tensor = torch.linalg.vector_norm(value.flatten(1), dim=1)
        return norms.reshape(-1, *(1,) * (value.ndim - 1)).expand_as(value) + eta
    return value.abs() + eta


# Micro-batches: the examples of a subject in groups of a fixed size, each a separate subject.


def micro_batches(subject: Subject, size: int | None) -> Iterator[tuple[float, Subject]]:
    """The share of the examples that each micro-batch has, and the subject of only its examples.

    `size` examples at a time in their order, whatever the subject's batch size; the last may be smaller. None: all
    examples are one.
    """
    count = subject.n
    for start in range(0, count, size or count):
        inputs, targets = subject.pick(slice(start, start + (size or count)))
        yield len(targets) / count, replace(subject, inputs=inputs, targets=targets)


FEW_BYTES = 64 * 2**20
"""On a CPU displacements go together below this: convolutions with separate weights for each are then slower."""

Statistic = Callable[[Tensor, Tensor], Tensor]
"""Logits [B, C], targets -> values [B], one an example."""


def perturb(params: Params, displacement: Tensor) -> Params:
    """theta + d."""
    pieces = unflatten(params, displacement)
    return {name: value + pieces[name].to(value.dtype) for name, value in params.items()}


def perturbed_loss(subject: Subject, displacement: Tensor) -> Tensor:
    """The loss L(theta + d) with its penalty, a scalar in float64, differentiable in the displacement d [P].

    Losses are summed in float64, example by example: what a float32 loss would lose in a difference averages out.

    >>> round(float(curvature.perturbed_loss(subject, torch.zeros(8, dtype=torch.float64))), 9)  # log 2
    0.693147181
    """
    params = perturb(subject.params, displacement)
    mean = subject.mean(
        lambda inputs, targets: subject.criterion(subject.apply(params, inputs), targets).double().mean()
    )
    return subject.criterion.add_penalty(mean, {name: value.double() for name, value in params.items()})


def require_finite(value: float, what: str) -> float:
    """`value` itself. Raises NotApplicable where displaced weights have made `what` infinite or NaN.

    >>> curvature.require_finite(1.5, "the loss")
    1.5
    """
    if not math.isfinite(value):
        raise NotApplicable(f"{what} is {value} at the displaced weights; choose a smaller displacement")
    return value


@dataclass(frozen=True, slots=True, eq=False)
class PerturbedLosses:
    """Losses at m displaced weights, float64, on the CPU: their means over examples [m], over displacements [n]."""

    means: Tensor
    by_example: Tensor


def perturbed_means(subject: Subject, displacements: Iterable[Tensor], of: Statistic | None = None) -> Tensor:
    """The means [m], float64 on the CPU, of a statistic of the outputs at m displaced weights.

    (1/n) sum_i of(f(theta + d, x_i), y_i) for every displacement d [P].

    Args:
        displacements: as many are used at a time as fit into memory; one forward pass each.
        of: (logits, targets) -> [B]; by default the criterion.
    Raises:
        NotApplicable: where a mean, or its third power, which the intervals use, is not finite.

    >>> curvature.perturbed_means(subject, [torch.zeros(8, dtype=torch.float64)])
    tensor([0.6931], dtype=torch.float64)
    """
    return perturbed_losses(subject, displacements, of).means


def perturbed_losses(subject: Subject, displacements: Iterable[Tensor], of: Statistic | None = None) -> PerturbedLosses:
    """`perturbed_means`, and the means over the displacements of the values of each example.

    >>> found = curvature.perturbed_losses(subject, [torch.zeros(8, dtype=torch.float64)])
    >>> found.means, found.by_example
    (tensor([0.6931], dtype=torch.float64), tensor([0.6931], dtype=torch.float64))
    """
    means = []
    total = torch.zeros(subject.n, dtype=torch.float64)
    for values in _iterate_values(subject, displacements, of or subject.criterion):
        means.append(values.mean(0))
        total += values.sum(1)
    found = torch.cat(means)
    require_finite(float(found.abs().pow(3).sum()), "the sum of the cubed losses")
    return PerturbedLosses(found, total / len(found))


def displaced_losses(subject: Subject, displacements: Iterable[Tensor]) -> Tensor:
    """The losses L(theta + d) [m] with their penalty, float64 on the CPU, at m displaced weights.

    Losses that are not finite stay as they are.

    Args:
        displacements: flat vectors d [P]; as many are used at a time as fit into memory, one forward pass each.

    >>> curvature.displaced_losses(subject, [torch.zeros(8, dtype=torch.float64)])
    tensor([0.6931], dtype=torch.float64)
    """
    decay, weights = subject.criterion.weight_decay, flatten(subject.params)
    penalties: list[Tensor] = []

    def noted() -> Iterator[Tensor]:
        for displacement in displacements:
            if decay:
                penalties.append(decay / 2 * (weights + displacement).double().square().sum().cpu())
            yield displacement

    means = torch.cat([values.mean(0) for values in _iterate_values(subject, noted(), subject.criterion)])
    return means + torch.stack(penalties) if penalties else means


def _iterate_values(subject: Subject, displacements: Iterable[Tensor], of: Statistic) -> Iterator[Tensor]:
    """The values [n, some] on the CPU at as many displaced weights at a time as fit into memory."""
    device = next(iter(subject.params.values())).device
    count = vectors_at_once(subject, FEW_BYTES) if device.type == "cpu" else vectors_at_once(subject)
    rows = iter(displacements)
    while chunk := list(islice(rows, count)):
        yield _values(subject, torch.stack(chunk), of).cpu()


def _values(subject: Subject, displacements: Tensor, of: Statistic) -> Tensor:
    def batch(inputs: Inputs, targets: Tensor) -> Tensor:
        def values(displacement: Tensor) -> Tensor:
            logits = subject.apply(perturb(subject.params, displacement), inputs)
            return of(logits, targets).double()

        return map_vectors(values, displacements, len(displacements)).T

    with torch.no_grad():
        return subject.by_example(batch)


def draw_directions(
    subject: Subject, count: int, generator: torch.Generator, distribution: Literal["gaussian", "uniform"] = "gaussian"
) -> Iterator[Tensor]:
    """An iterator over `count` random vectors [P], float64: z ~ N(0, I), or uniform on [-1, 1]^P.

    They are drawn one by one on the CPU, so they do not depend on how many are used at a time.

    >>> len(list(curvature.draw_directions(subject, 3, torch.Generator().manual_seed(0))))
    3
    """
    like = next(iter(subject.params.values())).new_empty(subject.size)
    for _ in range(count):
        if distribution == "gaussian":
            yield draw_probes(like, 1, generator, "gaussian")[0]
        else:
            yield (2 * torch.rand(subject.size, generator=generator, dtype=torch.float64) - 1).to(like)
