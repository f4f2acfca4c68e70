"""Neighbourhoods of the weights: how much the loss rises at most in one, micro-batch by micro-batch."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpbench.core.measure import Estimate
from sharpbench.core.subject import Subject
from sharpbench.curvature.ascent import Norm, climb
from sharpbench.curvature.displacement import displaced_loss, finite
from sharpbench.curvature.microbatch import micro_batches
from sharpbench.errors import InvalidInput

MOST = 10_000


def check_worst_case(radius: float, steps: int, micro_batch: int | None) -> None:
    """Raises InvalidInput for a neighbourhood, a budget or micro-batches that are none."""
    if not 0 < radius < float("inf"):
        raise InvalidInput(f"rho={radius} must be above 0 and finite")
    if not 1 <= steps <= MOST:
        raise InvalidInput(f"steps={steps} must be from 1 to {MOST:,}")
    if micro_batch is not None and micro_batch < 1:
        raise InvalidInput(f"micro_batch={micro_batch} must be at least 1, or none for all examples together")


def worst_case(
    subject: Subject, scales: Tensor, *, radius: float, norm: Norm, steps: int, micro_batch: int | None
) -> Estimate:
    """mean over micro-batches B of max over |e / c|_p <= radius of L_B(theta + e) - L_B(theta), c = `scales` [P].

    As far as `steps` steps of ascent find it (stderr: exact for one, which defines it, else unknown), in the
    coordinates u = e / c, in which the neighbourhood is a ball and rescalings of the weights that rescale c are not
    seen. Where c_j = 0 nothing moves. micro_batch: see `micro_batches`. Several steps are taken in float64 whatever
    the subject's type: they compare losses that lie near each other, and rounding would decide how the ascent goes.
    NotApplicable where the rise is not finite. Cost: that of `climb`.
    """
    if steps > 1:
        subject, scales = subject.to(dtype=torch.float64), scales.double()
    value, groups = 0.0, 0
    for share, part in micro_batches(subject, micro_batch):

        def loss(point: Tensor, part: Subject = part) -> Tensor:
            return displaced_loss(part, scales * point)

        found = climb(loss, torch.zeros_like(scales), radius=radius, norm=norm, steps=steps)
        value, groups = value + share * finite(found.gain, "the rise of the loss"), groups + 1
    frozen = int((scales == 0).sum())
    return Estimate(
        value,
        stderr=0.0 if steps == 1 else None,
        details={"method": "one step" if steps == 1 else "auto-pgd", "groups": groups, "rho": radius, "frozen": frozen},
    )


def reference_one_step(
    subject: Subject, scales: Tensor, *, radius: float, norm: Norm, micro_batch: int | None
) -> float:
    """The same for one step, by torch.autograd, example by example: e = r c^2 g / |c g|_2, or r c sign(g)."""
    count = len(subject.inputs)
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
        subject.criterion(subject.apply(params, subject.inputs[i : i + 1]), subject.targets[i : i + 1])
        for i in some.tolist()
    ]
    return torch.cat(losses).mean()
