"""Geodesic sharpness for one step, slow and by the paper's formulas: the oracle of `geodesic`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sharpbench import Subject
from sharpbench.symmetry import LinearBlock, Metric

Params = dict[str, Tensor]


def reference_one_step(
    subject: Subject, blocks: Sequence[LinearBlock], metric: Metric, *, radius: float, micro_batch: int | None
) -> float:
    """The rise at the end of the geodesic along the Riemannian gradient, mean over micro-batches, in float64."""
    doubled = subject.to(dtype=torch.float64)
    value = 0.0
    for some in torch.arange(doubled.n).split(micro_batch or doubled.n):
        params = {name: each.clone().requires_grad_() for name, each in doubled.params.items()}
        with torch.enable_grad():
            before = _loss(doubled, params, some)
            slopes = torch.autograd.grad(before, list(params.values()))
        gradient = dict(zip(params, slopes, strict=True))
        ascent = {name: gradient[name] * each.detach() ** 2 for name, each in params.items()}
        square = {name: gradient[name] * ascent[name] for name in params}
        sides = [tuple(_take(params, block, inverse) for inverse in (False, True)) for block in blocks]
        grams = [(g.T @ g, h.T @ h) for g, h in sides]
        weights = [(a, b) if metric == "inv" else (b.inverse(), a.inverse()) for a, b in grams]
        steepest = []
        for block, pair in zip(blocks, weights, strict=True):
            slope = [_take(gradient, block, inverse) for inverse in (False, True)]
            xi = [each @ weight for each, weight in zip(slope, pair, strict=True)]
            steepest.append(xi)
            for inverse in (False, True):
                square = _put(square, block, inverse, slope[inverse] * xi[inverse])
        length = sum(float(each.sum()) for each in square.values()) ** 0.5
        share = radius / (length or 1.0)
        moved = {name: each.detach() + share * ascent[name] for name, each in params.items()}
        for block, (g, h), (a, b), xi in zip(blocks, sides, grams, steepest, strict=True):
            first, second = share * xi[0], share * xi[1]
            bends = _bends(metric, (g, h), (a.inverse(), b.inverse()), (first, second))
            moved = _put(moved, block, False, g + first - bends[0] / 2)
            moved = _put(moved, block, True, h + second - bends[1] / 2)
        value += float(_loss(doubled, moved, some) - before.detach()) * len(some) / doubled.n
    return value


def _bends(
    metric: Metric, sides: tuple[Tensor, Tensor], inverses: tuple[Tensor, Tensor], xi: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Equations 11 and 12, for G and for H."""

    def bend(own: int, other: int) -> Tensor:
        g, h, x, y = sides[own], sides[other], xi[own], xi[other]
        if metric == "inv":
            return -x @ inverses[own] @ (x.T @ g + g.T @ x) + g @ inverses[own] @ x.T @ x
        return x @ (y.T @ h + h.T @ y) @ inverses[other] - g @ y.T @ y @ inverses[other]

    return bend(0, 1), bend(1, 0)


def _take(params: Params, block: LinearBlock, inverse: bool) -> Tensor:
    """G, or H: the block's entries on one side, [rest, h]."""
    rows = [
        params[each.parameter].detach().movedim(each.axis, 0)[indices].flatten(1).T
        if params[each.parameter].ndim > 1
        else params[each.parameter].detach()[indices][None]
        for each in block.occurrences
        if each.inverse == inverse
        for indices in each.indices.T
    ]
    return torch.cat(rows)


def _put(params: Params, block: LinearBlock, inverse: bool, values: Tensor) -> Params:
    """The parameters with these values at the entries of one side of a block."""
    found, at = dict(params), 0
    for each in block.occurrences:
        if each.inverse == inverse:
            for indices in each.indices.T:
                moved = found[each.parameter].detach().clone().movedim(each.axis, 0)
                rest = moved[indices].numel() // len(indices)
                moved[indices] = values[at : at + rest].T.reshape(moved[indices].shape)
                found[each.parameter] = moved.movedim(0, each.axis)
                at += rest
    return found


def _loss(subject: Subject, params: Params, some: Tensor) -> Tensor:
    inputs, targets = subject.pick(some)
    return subject.criterion(subject.apply(params, inputs), targets).mean()
