"""The Hessian of one example's loss by its outputs, as a product S S^T with as few columns as there can be.

It is block-diagonal over the positions of the example, so no column touches two positions, and no more than the columns
that are asked for is ever formed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sharpbench.core.loss import PerExampleLoss
from sharpbench.core.measure import NotApplicable
from sharpbench.core.output_losses import ElementwiseLoss, GaussianLoss, SoftmaxLoss
from sharpbench.errors import truncate

MAX_REASON_CHARS = 200
"""Characters of torch's reason that are quoted."""
MAX_DENSE_OUTPUTS = 1024
"""Outputs of an example up to which the Hessian of a callable is formed and decomposed: 8 MiB in float64."""


def output_root(
    criterion: PerExampleLoss, outputs: Tensor, target: Tensor, columns: slice | None = None
) -> tuple[Tensor, Tensor]:
    """S [..., K] and weights [K], signs or ones, with Lambda = S diag(weights) S^T for one example's outputs.

    Lambda is the Hessian of the loss by the outputs.

    Softmax losses: C - 1 columns of a Householder reflection per position, with no entry formed by cancellation;
    positions that count come first, ignored ones have columns of 0. Losses of single entries: one column each (mse:
    Lambda = (2 / C) I, since torch's 'mean' also averages over outputs). A normal density: two columns for each mean
    and its variance, of which the second has a negative weight. Any other loss: the eigenvectors of its differentiated
    Hessian, where negative eigenvalues give negative weights.

    Args:
        outputs: of one example, [C] or [...].
        target: its target.
        columns: the part of the columns that is formed; None for all.
    Raises:
        NotApplicable: for a callable of more than MAX_DENSE_OUTPUTS outputs, or without second derivatives.

    >>> root, weights = curvature.output_root(subject.criterion, torch.zeros(2), torch.tensor(0))
    >>> root @ weights.diag() @ root.T
    tensor([[ 0.2500, -0.2500],
            [-0.2500,  0.2500]])
    """
    some = slice(0, columns_of(criterion, outputs.shape)) if columns is None else columns
    count = some.stop - some.start
    if criterion.kind == "cross_entropy":
        return softmax_root(outputs)[:, some], outputs.new_ones(count)
    if criterion.kind == "mse":
        root = torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device) * math.sqrt(2 / len(outputs))
        return root[:, some], outputs.new_ones(count)
    form = criterion.form
    if criterion.kind == "softmax" and isinstance(form, SoftmaxLoss):
        return _softmax_columns(form, criterion.size, outputs, target, some), outputs.new_ones(count)
    if criterion.kind == "elementwise" and isinstance(form, ElementwiseLoss):
        scales = (form.seconds(outputs[None], target[None])[0] / criterion.size).sqrt().flatten()
        return _diagonal_columns(scales, some).reshape(*outputs.shape, count), outputs.new_ones(count)
    if criterion.kind == "gaussian" and isinstance(form, GaussianLoss):
        root, weights = _gaussian_root(form, criterion.size, outputs, target)
        return root[..., some], weights[some]
    values, vectors = torch.linalg.eigh(_differentiate_twice(criterion, outputs, target))
    scaled = (vectors * values.abs().sqrt())[:, some]
    return scaled.reshape(*outputs.shape, count), values.sign()[some]


def _softmax_columns(form: SoftmaxLoss, size: float, outputs: Tensor, target: Tensor, some: slice) -> Tensor:
    """Columns [..., K] of the positions' roots, side by side; the positions that count are the first ones."""
    logits = form.by_position(outputs[None])[0]  # [P, C]
    width = logits.shape[1] - 1
    masses = form.masses(target[None], form.by_position(outputs[None]))[0] / size
    order = torch.sort((~form.counted(target[None])[0]).to(torch.uint8), stable=True).indices
    first, last = some.start // width, -(-some.stop // width)
    places = order[first:last]
    roots = torch.func.vmap(softmax_root)(logits[places]) * masses[places].sqrt()[:, None, None]  # [m, C, C - 1]
    hot = (torch.arange(len(logits), device=places.device)[:, None] == places).to(roots)  # [P, m]
    columns = (hot[:, None, :, None] * roots.movedim(1, 0)).flatten(2)  # [P, C, m (C - 1)]
    return form.as_outputs(columns[..., some.start - first * width : some.stop - first * width], outputs)


def _diagonal_columns(scales: Tensor, some: slice) -> Tensor:
    """Those columns of diag(scales)."""
    places = torch.arange(some.start, some.stop, device=scales.device)
    return torch.where(torch.arange(len(scales), device=scales.device)[:, None] == places, scales[some], 0.0)


def _gaussian_root(form: GaussianLoss, size: float, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """S [..., K] and weights [K] of l = (log v + d^2 / v) / 2 by mean and variance v, d = y - mean.

    The Hessian is (1 / v) a a^T - (1 / (2 v^2)) e e^T with a = (1, d / v) and e the axis of the variance.
    """
    gap, variance, mean = (each[0] for each in form.split(outputs[None], target[None]))
    half = mean.numel()
    scale = (1 / (variance * size)).sqrt().flatten()
    slope, least = scale * (gap / variance).flatten(), (0.5 / size) ** 0.5 / variance.flatten()
    root = torch.cat(
        (
            torch.cat((scale.diag_embed(), torch.zeros_like(scale).diag_embed()), 1),
            torch.cat((slope.diag_embed(), least.diag_embed()), 1),
        )
    )
    ones = outputs.new_ones(half)
    return root.reshape(*outputs.shape, 2 * half), torch.cat((ones, -ones))


def _differentiate_twice(criterion: PerExampleLoss, outputs: Tensor, target: Tensor) -> Tensor:
    """The Hessian [N, N] of a loss by the N outputs; by two backward passes where torch has no forward derivative."""
    if outputs.numel() > MAX_DENSE_OUTPUTS:
        raise NotApplicable(
            f"loss '{criterion.name}' is a callable, whose Hessian by {outputs.numel():,} outputs an example is not "
            f"formed; the bound is {MAX_DENSE_OUTPUTS:,}: give a loss of torch.nn, or a method=hutchinson"
        )

    def gradient(flat: Tensor) -> Tensor:
        def loss(z: Tensor) -> Tensor:
            return criterion(z.reshape(1, *outputs.shape), target[None])[0]

        found: Tensor = torch.func.grad(loss)(flat)
        return found

    flat = outputs.flatten()
    try:
        hessian: Tensor = torch.func.jacfwd(gradient)(flat)
    except NotImplementedError:
        try:
            hessian = torch.func.jacrev(gradient)(flat)
        except (NotImplementedError, RuntimeError) as error:
            reason = truncate(str(error), MAX_REASON_CHARS)
            raise NotApplicable(f"loss '{criterion.name}' has no second derivative in torch: {reason}") from error
    return hessian


def columns_of(criterion: PerExampleLoss, shape: torch.Size) -> int:
    """K, the columns of `output_root` for the outputs of one example of that shape."""
    if isinstance(criterion.form, SoftmaxLoss) and criterion.kind != "custom":
        classes = shape[-1 if criterion.form.axis == -1 else 0]
        return math.prod(shape) // classes * (classes - 1)
    if isinstance(criterion.form, ElementwiseLoss) and not criterion.form.curved and criterion.kind != "custom":
        return 0
    return math.prod(shape)


def needed_columns(criterion: PerExampleLoss, shape: torch.Size, targets: Tensor) -> Tensor | None:
    """How many of the first columns of `output_root` are not 0, by example [n]; None where it is all of them."""
    if criterion.kind != "softmax" or not isinstance(criterion.form, SoftmaxLoss):
        return None
    counted = criterion.form.counted(targets)
    if bool(counted.all()):
        return None
    return counted.sum(1).cpu() * (columns_of(criterion, shape) // counted.shape[1])


def softmax_root(logits: Tensor) -> Tensor:
    """S [C, C-1] with S S^T = diag(p) - p p^T, p = softmax(logits) of one example.

    With q = sqrt(p), a unit vector, S = diag(q) times the columns but the pivot's of the Householder reflection
    that carries q to an axis. Pivoted at the most probable class a: s_ij = q_i (delta_ij - q_i q_j / (1 + q_a))
    for i != a, and s_aj = -q_a q_j. Exact to rounding down to probabilities of 1e-35. The last class has the column
    of the pivot. The columns are contiguous, as backward passes read them.
    """
    last = len(logits) - 1
    highest = logits.max(0)
    shares = (logits - highest.values).exp()  # faster than torch's softmax, whose loops over few classes are short
    total = shares.sum()
    probabilities = shares / total
    q = probabilities.sqrt()
    pivot = torch.arange(last + 1, device=logits.device) == highest.indices
    moved = pivot[:last]
    rest = torch.where(moved, q[last], q[:last])  # of the class that each column is of
    shared = torch.where(pivot, -q, probabilities / (-1 - total.rsqrt()))
    columns = rest[:, None] * shared
    columns.diagonal().add_(torch.where(moved, 0.0, rest))
    columns[:, last].add_(moved * rest)
    return columns.T


def softmax_variance(logits: Tensor, values: Tensor) -> Tensor:
    """The variance [...] of values [..., C] under the distribution softmax(logits [..., C]).

    Values are taken relative to that of the most probable class, so the variance does not cancel where that probability
    is 1 up to rounding.

    >>> curvature.softmax_variance(torch.zeros(2), torch.tensor([1.0, 3.0]))
    tensor(1.)
    """
    probabilities = logits.softmax(-1)
    top = logits.argmax(-1, keepdim=True)
    moved = values - values.gather(-1, top.expand_as(values[..., :1]))
    centred = moved - (probabilities * moved).sum(-1, keepdim=True)
    return (probabilities * centred.square()).sum(-1)


def softmax_slopes(logits: Tensor, targets: Tensor) -> Tensor:
    """The gradients p - e_y [C, draws] of -log p_y by the logits [C], at targets y [draws].

    1 - p_y is computed as the sum of the other probabilities, so it does not cancel.

    >>> curvature.softmax_slopes(torch.zeros(2), torch.tensor([0, 1]))
    tensor([[-0.5000,  0.5000],
            [ 0.5000, -0.5000]])
    """
    probabilities = logits.softmax(0)[:, None]
    chosen = torch.arange(len(logits), device=logits.device)[:, None] == targets
    others = torch.where(chosen, 0.0, probabilities)
    return others - torch.where(chosen, others.sum(0), 0.0)


def score_columns(criterion: PerExampleLoss, outputs: Tensor, target: Tensor, uniform: Tensor) -> Tensor:
    """Gradients [..., draws] of one example's loss by its outputs at drawn targets, from uniform numbers.

    Each position draws a target from its own probabilities, and its gradient counts by the root of its weight. So the
    expectation of the outer product is the output Hessian. uniform: [draws] of a plain cross entropy, [P, draws] of a
    softmax at P positions, [..., draws] of a binary one.
    """
    form = criterion.form
    if criterion.kind == "cross_entropy":
        return _drawn_slopes(outputs, uniform)
    if isinstance(form, SoftmaxLoss):
        logits = form.by_position(outputs[None])[0]
        masses = form.masses(target[None], logits[None])[0] / criterion.size
        slopes = torch.func.vmap(_drawn_slopes)(logits, uniform) * masses.sqrt()[:, None, None]
        return form.as_outputs(slopes, outputs)
    assert isinstance(form, ElementwiseLoss)
    ones = uniform < outputs.double().sigmoid()[..., None]
    slopes = torch.where(ones, -(-outputs).sigmoid()[..., None], outputs.sigmoid()[..., None])
    factor = outputs.new_ones(()) if form.factor is None else form.factor.to(outputs)[..., None]
    return slopes * (factor / criterion.size).sqrt()


def _drawn_slopes(logits: Tensor, uniform: Tensor) -> Tensor:
    below = logits.double().softmax(0).cumsum(0)[:-1, None] <= uniform  # classes whose share ends before the draw
    return softmax_slopes(logits, below.sum(0))


def quadratic_form(criterion: PerExampleLoss, outputs: Tensor, along: Tensor, targets: Tensor) -> Tensor:
    """u^T Lambda u [B] for vectors u of the shape of the outputs [B, ...], Lambda as in `output_root`; never negative.

    For losses in closed form whose output Hessian is not indefinite.

    >>> curvature.quadratic_form(subject.criterion, torch.zeros(1, 2), torch.tensor([[1.0, 3.0]]), torch.tensor([0]))
    tensor([1.])
    """
    form = criterion.form
    if criterion.kind == "cross_entropy":
        return softmax_variance(outputs, along)
    if criterion.kind == "mse":
        return 2 * along.square().mean(1)
    if isinstance(form, SoftmaxLoss):
        logits = form.by_position(outputs)
        variances = softmax_variance(logits, form.by_position(along))  # [B, P]
        return (form.masses(targets, logits) * variances).sum(1) / criterion.size
    assert isinstance(form, ElementwiseLoss)
    return (form.seconds(outputs, targets) * along.square()).reshape(len(outputs), -1).sum(1) / criterion.size


def _divisor(criterion: PerExampleLoss, outputs: Tensor) -> float:
    """By which the numerators of one example's closed form are divided."""
    return outputs.numel() if criterion.kind == "mse" else criterion.size


def random_columns(criterion: PerExampleLoss, outputs: Tensor, target: Tensor, noise: Tensor) -> Tensor:
    """S times standard normal noise [..., s], for one example: sums over its positions, whose expected outer product is
    Lambda. The root S is never formed. For losses in closed form whose output Hessian is not indefinite."""
    form = criterion.form
    if isinstance(form, SoftmaxLoss):
        logits = form.by_position(outputs[None])[0]
        masses = form.masses(target[None], logits[None])[0] / criterion.size
        drawn = form.by_position(noise.movedim(-1, 0)).movedim(0, -1)  # [P, C, s]
        columns = torch.func.vmap(_root_times)(logits, drawn) * masses.sqrt()[:, None, None]
        return form.as_outputs(columns, outputs)
    assert isinstance(form, ElementwiseLoss)
    scales = (form.seconds(outputs[None], target[None])[0] / _divisor(criterion, outputs)).sqrt()
    return scales[..., None] * noise


def sketched_root(logits: Tensor, noise: Tensor, top: int) -> Tensor:
    """S [C, top + s] for cross entropy: `top` exact columns, then s random ones, from standard normal `noise` [C, s].

    The classes are split into the `top` most probable ones T, of probability pi, and the rest R, of 1 - pi. By the
    law of total covariance diag(p) - p p^T is the sum of pi times that of p given T, which has top - 1 columns,
    of pi (1 - pi) m m^T with m the difference of both conditional means, one column, and of 1 - pi times that of
    p given R: its root times the noise. No sum is formed by subtraction. So S S^T is below Lambda without the
    random columns, and in expectation equal to it with weights 1 / s.
    """
    kept = logits.topk(top).indices
    rest = logits.scatter(0, kept, -math.inf)
    inside, outside = (each.logsumexp(0) for each in (logits[kept], rest))
    whole = torch.logaddexp(inside, outside)
    pi, tail = (inside - whole).exp(), (outside - whole).exp()
    within = logits.new_zeros(len(logits), top - 1).index_put((kept,), pi.sqrt() * softmax_root(logits[kept]))
    mean = torch.zeros_like(logits).scatter(0, kept, logits[kept].softmax(0))
    between = (pi * tail).sqrt() * (mean - rest.softmax(0))
    return torch.cat((within, between[:, None], tail.sqrt() * _root_times(rest, noise)), 1)


def _root_times(logits: Tensor, vectors: Tensor) -> Tensor:
    """softmax_root(logits) times vectors [C, s], whose row at the pivot is left out, without forming the root."""
    q = (logits.log_softmax(0) / 2).exp()
    pivot = torch.arange(len(q), device=q.device) == q.argmax()
    top = q.max()
    others = torch.where(pivot[:, None], 0.0, vectors)
    along = q @ others
    product: Tensor = q[:, None] * torch.where(pivot[:, None], -along, others - q[:, None] * along / (1 + top))
    return product
