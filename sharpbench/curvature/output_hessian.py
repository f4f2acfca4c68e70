"""The Hessian of one example's loss by its logits, as a product S S^T with as few columns as there can be."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sharpbench.core.loss import PerExampleLoss
from sharpbench.core.measure import NotApplicable
from sharpbench.errors import truncate

MAX_REASON_CHARS = 200
"""Characters of torch's reason that are quoted."""


def output_root(criterion: PerExampleLoss, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """S [C, K] and weights [K], signs or ones, with Lambda = S diag(weights) S^T for one example's logits.

    Lambda is the Hessian of the loss by the logits.

    cross_entropy: K = C - 1 columns of a Householder reflection, with no entry formed by cancellation. mse: K = C and
    Lambda = (2 / C) I, since torch's 'mean' also averages over outputs. Any other criterion: the eigenvectors of its
    differentiated Hessian, where negative eigenvalues give negative weights.

    Args:
        logits: [C].
        target: a scalar class, or [C].

    >>> root, weights = curvature.output_root(subject.criterion, torch.zeros(2), torch.tensor(0))
    >>> root @ weights.diag() @ root.T
    tensor([[ 0.2500, -0.2500],
            [-0.2500,  0.2500]])
    """
    if criterion.kind == "cross_entropy":
        return softmax_root(logits), logits.new_ones(len(logits) - 1)
    if criterion.kind == "mse":
        return torch.eye(len(logits), dtype=logits.dtype, device=logits.device) * math.sqrt(2 / len(logits)), (
            logits.new_ones(len(logits))
        )
    values, vectors = torch.linalg.eigh(_differentiate_twice(criterion, logits, target))
    return vectors * values.abs().sqrt(), values.sign()


def _differentiate_twice(criterion: PerExampleLoss, logits: Tensor, target: Tensor) -> Tensor:
    """The Hessian [C, C] of a loss by the logits; by two backward passes where torch has no forward derivative."""

    def gradient(outputs: Tensor) -> Tensor:
        found: Tensor = torch.func.grad(lambda z: criterion(z[None], target[None])[0])(outputs)
        return found

    try:
        hessian: Tensor = torch.func.jacfwd(gradient)(logits)
    except NotImplementedError:
        try:
            hessian = torch.func.jacrev(gradient)(logits)
        except (NotImplementedError, RuntimeError) as error:
            reason = truncate(str(error), MAX_REASON_CHARS)
            raise NotApplicable(f"criterion '{criterion.name}' has no second derivative in torch: {reason}") from error
    return hessian


def columns_of(criterion: PerExampleLoss, classes: int) -> int:
    """K, the columns of `output_root`."""
    return classes - 1 if criterion.kind == "cross_entropy" else classes


def softmax_root(logits: Tensor) -> Tensor:
    """S [C, C-1] with S S^T = diag(p) - p p^T, p = softmax(logits) of one example.

    With q = sqrt(p), a unit vector, S = diag(q) times the columns but the pivot's of the Householder reflection
    that carries q to an axis. Pivoted at the most probable class a: s_ij = q_i (delta_ij - q_i q_j / (1 + q_a))
    for i != a, and s_aj = -q_a q_j. Exact to rounding down to probabilities of 1e-35.
    """
    classes = len(logits)
    q = (logits.log_softmax(0) / 2).exp()
    pivot = q.argmax()
    others = (pivot + 1 + torch.arange(classes - 1, device=logits.device)) % classes  # every class but the pivot
    top, rest = q[pivot], q[others]
    indices = torch.arange(classes, device=logits.device)
    shared = -q * torch.where(indices == pivot, 1.0, q / (1 + top))
    root: Tensor = ((indices[:, None] == others) + shared[:, None]) * rest
    return root


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
