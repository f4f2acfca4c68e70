"""Ascent: how high a function climbs within a ball around 0, in one step or by projected gradient ascent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from sharpbench.core.measure import Estimate
from sharpbench.core.subject import Subject
from sharpbench.curvature.derivative_methods import METHODS, DerivativeMethod
from sharpbench.curvature.first_derivatives import gradient_method
from sharpbench.curvature.perturbation import micro_batches, perturbed_loss, require_finite
from sharpbench.curvature.products import flatten
from sharpbench.errors import InvalidInput

# Neighbourhoods of the weights: how much the loss rises at most in one, micro-batch by micro-batch.

MOST = 10_000


def check_worst_case(radius: float, steps: int, micro_batch: int | None) -> None:
    """Raise InvalidInput for a radius, a number of steps or a size of micro-batches that is out of range.

    >>> curvature.check_worst_case(radius=0.1, steps=1, micro_batch=None)
    """
    if not 0 < radius < float("inf"):
        raise InvalidInput(f"rho={radius} must be above 0 and finite")
    if not 1 <= steps <= MOST:
        raise InvalidInput(f"steps={steps} must be from 1 to {MOST:,}")
    if micro_batch is not None and micro_batch < 1:
        raise InvalidInput(f"micro_batch={micro_batch} must be at least 1, or none for all examples together")


def worst_case(
    subject: Subject, scales: Tensor, *, radius: float, norm: Norm, steps: int, micro_batch: int | None
) -> Estimate:
    """The largest rise of the loss in a neighbourhood, mean over micro-batches B, as far as the ascent finds it.

    max over |e / c|_p <= radius of L_B(theta + e) - L_B(theta), c = `scales` [P]; where c_j = 0 nothing moves. The
    ascent uses the coordinates u = e / c, in which the neighbourhood is a ball, so it is unaffected by rescalings of
    the weights that also rescale c. Several steps are taken in float64 whatever the subject's dtype: they compare
    losses that are close to each other, and rounding would decide the path.

    Args:
        radius: of the ball, in units of c.
        norm: 'l2' or 'linf'.
        steps: of the ascent; one step defines the value exactly, for more its stderr is unknown.
        micro_batch: examples per micro-batch, see `micro_batches`; None for all.
    Raises:
        NotApplicable: where the rise is not finite.

    Cost: about one gradient and one loss per step.

    >>> ones = torch.ones(8, dtype=torch.float64)
    >>> rise = curvature.worst_case(subject, ones, radius=0.1, norm="l2", steps=1, micro_batch=None)
    >>> round(rise.value, 6)  # |gradient| = sqrt(5), and 5 of curvature: about 0.1 sqrt(5) + 0.01 * 5 / 2
    0.248401
    """
    found = largest_rise(
        subject,
        lambda point: scales.to(point.dtype) * point,
        radius=radius,
        norm=norm,
        steps=steps,
        micro_batch=micro_batch,
    )
    return replace(found, details={**found.details, "frozen": int((scales == 0).sum())})


def largest_rise(
    subject: Subject,
    displace: Callable[[Tensor], Tensor],
    *,
    radius: float,
    norm: Norm,
    steps: int,
    micro_batch: int | None,
) -> Estimate:
    """The same for a neighbourhood that is the image of a ball: of points u [P] with |u|_p <= radius.

    Args:
        displace: points u [P] -> displacements of the weights [P], differentiable, 0 at 0; in the subject's dtype, or
            in float64 for several steps.
    Raises:
        NotApplicable: as `worst_case`.

    Cost: that of `worst_case`.

    >>> rise = curvature.largest_rise(subject, lambda u: 2 * u, radius=0.05, norm="l2", steps=1, micro_batch=None)
    >>> round(rise.value, 6)  # that of radius 0.1 with scales of 1
    0.248401
    """
    method = gradient_method(subject)
    if steps > 1:
        subject = subject.to(dtype=torch.float64)
    start = torch.zeros_like(flatten(subject.params))
    value, groups = 0.0, 0
    for share, part in micro_batches(subject, micro_batch):

        def loss(point: Tensor, part: Subject = part) -> Tensor:
            return perturbed_loss(part, displace(point))

        found = ascend_once(loss, start, radius=radius, norm=norm, steps=steps, method=method)
        value, groups = value + share * require_finite(found.gain, "the rise of the loss"), groups + 1
    return Estimate(
        value,
        stderr=0.0 if steps == 1 else None,
        details={"method": "one step" if steps == 1 else "auto-pgd", "groups": groups, "rho": radius},
    )


def reference_one_step(
    subject: Subject, scales: Tensor, *, radius: float, norm: Norm, micro_batch: int | None
) -> float:
    """The value of `worst_case` for one step, by torch.autograd, example by example.

    The step is e = r c^2 g / |c g|_2 for 'l2', or r c sign(g) for 'linf'.

    >>> ones = torch.ones(8, dtype=torch.float64)
    >>> round(curvature.reference_one_step(subject, ones, radius=0.1, norm="l2", micro_batch=None), 6)
    0.248401
    """
    count = subject.n
    value = 0.0
    for some in torch.arange(count).split(micro_batch or count):
        params = {name: tensor.clone().requires_grad_() for name, tensor in subject.params.items()}
        with torch.enable_grad():
            before = _mean_loss(subject, params, some)
            gradients = torch.autograd.grad(before, list(params.values()), allow_unused=True)
        pairs = zip(gradients, params.values(), strict=True)
        slope = torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in pairs])
        length = float((scales * slope).square().sum().sqrt())
        step = scales * slope.sign() if norm == "linf" else scales.square() * slope / (length or 1.0)
        pieces = (radius * step).split([tensor.numel() for tensor in params.values()])
        moved = {
            name: tensor + piece.reshape(tensor.shape)
            for (name, tensor), piece in zip(params.items(), pieces, strict=True)
        }
        value += float((_mean_loss(subject, moved, some) - before).detach()) * len(some) / count
    return value


def _mean_loss(subject: Subject, params: dict[str, Tensor], some: Tensor) -> Tensor:
    losses = [
        subject.criterion(subject.apply(params, example), target) for example, target in subject.take(some).split()
    ]
    return torch.cat(losses).mean()


Norm = Literal["l2", "linf"]
MOMENTUM = 0.75
RISING = 0.75
"""Auto-PGD halves its step where fewer than this share of the last steps went up."""


@dataclass(frozen=True, slots=True)
class Ascent:
    """gain: f(point) - f(0). point [P]: where."""

    gain: float
    point: Tensor


def ascend_once(
    function: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    radius: float,
    norm: Norm,
    steps: int,
    method: DerivativeMethod = METHODS[0],
) -> Ascent:
    """From 0 = `start` in the ball of `radius`: one step to its edge, or the best of the iterates of `steps` steps.

    One step goes along the steepest ascent of the linearised function, and may go down. More are Auto-PGD's, from
    0, which counts among the iterates: never negative. Cost: steps + 1 gradients; one gradient and one value.
    """
    if steps > 1:
        return maximize_loss(function, start, radius=radius, norm=norm, steps=steps, method=method)
    gradient, value = method.slope_and_value(function, start)
    point = start + radius * steepest_direction(gradient, norm)
    return Ascent(float(function(point) - value), point)


def maximize_loss(
    function: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    radius: float,
    norm: Norm,
    steps: int,
    method: DerivativeMethod = METHODS[0],
) -> Ascent:
    """The best of `steps` + 1 iterates of Auto-PGD (Croce and Hein 2020, Algorithm 1) from 0 = `start`.

    z = P(x_k + s d(x_k)), x_{k+1} = P(x_k + 0.75 (z - x_k) + 0.25 (x_k - x_{k-1})), d the steepest direction and P
    the projection. s is 2 radius at first; at checkpoints that come ever more often it is halved where fewer than
    three quarters of the steps since the last one rose, or nothing did and s was kept; then x starts anew from the
    best point. The gain is not a number where the function is not finite at an iterate: others say little of the best.
    """
    slope = partial(method.slope_and_value, function)
    gradient, value = slope(start)
    path = [float(value)]
    best = (path[0], start, gradient)
    step, last, kept = 2 * radius, 0, True
    before, point = start, project_to_ball(start + step * steepest_direction(gradient, norm), radius, norm)
    for count in range(steps):
        gradient, value = slope(point)
        path.append(float(value))
        if path[-1] > best[0]:
            best = (path[-1], point, gradient)
        if count in checkpoints(steps):
            halve = is_stalled(path[: count + 1], last, kept=kept)
            last, kept = count, not halve
            if halve:
                step, point, gradient = step / 2, best[1], best[2]
        target = project_to_ball(point + step * steepest_direction(gradient, norm), radius, norm)
        moved = point + MOMENTUM * (target - point) + (1 - MOMENTUM) * (point - before)
        before, point = point, project_to_ball(moved, radius, norm)
    return Ascent(best[0] - path[0] if all(map(math.isfinite, path)) else math.nan, best[1])


def checkpoints(steps: int) -> tuple[int, ...]:
    """The iterations at which the step is looked at: ceil(p_j steps), p_0 = 0, p_1 = 0.22, then ever closer."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return tuple(math.ceil(share * steps - 1e-9) for share in shares[1:-1])


def is_stalled(path: Sequence[float], last: int, *, kept: bool) -> bool:
    """Whether the step is too long: too few rises since checkpoint `last`, or no new maximum though it was kept."""
    rises = sum(path[index + 1] > path[index] for index in range(last, len(path) - 1))
    return rises < RISING * (len(path) - 1 - last) or (kept and max(path) == max(path[: last + 1]))


def steepest_direction(gradient: Tensor, norm: Norm) -> Tensor:
    """The vector of norm 1 along which a linear function rises most: g / |g|_2, or sign(g); 0 where g is 0."""
    if norm == "linf":
        return gradient.sign()
    largest = gradient.abs().max()
    scaled = gradient / torch.where(largest > 0, largest, 1.0)  # the squares of small gradients would be 0
    length = torch.linalg.vector_norm(scaled)
    return scaled / torch.where(length > 0, length, 1.0)


def project_to_ball(point: Tensor, radius: float, norm: Norm) -> Tensor:
    """The nearest point of the ball of `radius`."""
    if norm == "linf":
        return point.clamp(-radius, radius)
    length = torch.linalg.vector_norm(point)
    return torch.where(length > radius, radius * steepest_direction(point, norm), point)  # the length may be infinite
