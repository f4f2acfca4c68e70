"""The losses of one output and its target, with their second derivatives by the output, none formed by cancellation."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """(z - y)^2."""
    return (outputs - targets).square()


def constant_second(outputs: Tensor, targets: Tensor) -> Tensor:
    """2, of the squared error."""
    return torch.full_like(outputs, 2.0)


def absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """|z - y|; its derivative is 0 at 0, as torch's."""
    return (outputs - targets).abs()


def zero_second(outputs: Tensor, targets: Tensor) -> Tensor:
    """0, of a piecewise linear loss."""
    return torch.zeros_like(outputs)


def huber(outputs: Tensor, targets: Tensor, delta: float) -> Tensor:
    """d^2 / 2 up to delta, else delta (|d| - delta / 2)."""
    gap = outputs - targets
    return torch.where(gap.abs() <= delta, gap.square() / 2, delta * (gap.abs() - delta / 2))


def huber_second(outputs: Tensor, targets: Tensor, delta: float) -> Tensor:
    """1 up to delta, else 0."""
    return ((outputs - targets).abs() <= delta).to(outputs)


def smooth_l1(outputs: Tensor, targets: Tensor, beta: float) -> Tensor:
    """d^2 / (2 beta) below beta, else |d| - beta / 2; beta > 0."""
    gap = outputs - targets
    return torch.where(gap.abs() < beta, gap.square() / (2 * beta), gap.abs() - beta / 2)


def smooth_l1_second(outputs: Tensor, targets: Tensor, beta: float) -> Tensor:
    """1 / beta below beta, else 0."""
    return ((outputs - targets).abs() < beta).to(outputs) / beta


def binary_cross_entropy(outputs: Tensor, targets: Tensor, positive: Tensor | None = None) -> Tensor:
    """-positive y log s(z) - (1 - y) log(1 - s(z)), s the logistic function.

    Written as log(1 + exp(-|z|)) plus a linear part, with the branch fixed, so that no derivative is wrong at 0.
    """
    above = outputs.detach() > 0
    weight = targets if positive is None else targets * positive
    tail = torch.where(above, -outputs, outputs).exp().log1p()
    linear = torch.where(above, (1 - targets) * outputs, -weight * outputs)
    return (weight + 1 - targets) * tail + linear


def binary_cross_entropy_second(outputs: Tensor, targets: Tensor, positive: Tensor | None = None) -> Tensor:
    """(positive y + 1 - y) s(z) s(-z)."""
    weight = targets if positive is None else targets * positive
    return (weight + 1 - targets) * outputs.sigmoid() * (-outputs).sigmoid()


def poisson(outputs: Tensor, targets: Tensor, full: bool) -> Tensor:
    """exp(z) - y z, z the logarithm of the rate. full: with Stirling's approximation of log y!, where y > 1."""
    losses = outputs.exp() - targets * outputs
    return losses + _stirling(targets) if full else losses


def poisson_second(outputs: Tensor, targets: Tensor) -> Tensor:
    """exp(z)."""
    return outputs.exp()


def poisson_rate(outputs: Tensor, targets: Tensor, eps: float, full: bool) -> Tensor:
    """z - y log(z + eps), z the rate."""
    losses = outputs - targets * (outputs + eps).log()
    return losses + _stirling(targets) if full else losses


def poisson_rate_second(outputs: Tensor, targets: Tensor, eps: float) -> Tensor:
    """y / (z + eps)^2."""
    return targets / (outputs + eps).square()


def _stirling(targets: Tensor) -> Tensor:
    large = targets > 1
    safe = torch.where(large, targets, 1.0)
    return torch.where(large, safe * safe.log() - safe + 0.5 * (2 * torch.pi * safe).log(), 0.0)
