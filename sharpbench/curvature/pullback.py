"""Exact traces and diagonals of the Gauss-Newton matrix, for any network: per-example pullbacks of the output root."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sharpbench.curvature.output import output_root
from sharpbench.subject import Params, Subject

PULLBACK_BYTES = 512 * 2**20
"""Per-example gradients of all columns that are held at once stay below this."""


def exact_diagonal(subject: Subject) -> dict[str, Tensor]:
    """The diagonal of the Gauss-Newton matrix (1/n) sum_i J_i^T Lambda_i J_i, by parameter.

    It is that of the Hessian of the mean loss where the network is piecewise affine in each parameter. With
    Lambda = S S^T, diag = (1/n) sum_i sum_k (J_i^T s_ik)^2: never negative. C - 1 backward passes for cross
    entropy, C for mean squared error. (Ibayashi, Hamaguchi, Imaizumi 2021, Proposition 1 and appendix H.)
    """
    return _mean_of_rows(subject, lambda rows, weights: (rows.square() * _column(weights, rows)).sum((0, 1)))


def exact_traces(subject: Subject) -> dict[str, float]:
    """The trace of each parameter's diagonal block of the Gauss-Newton matrix; see `exact_diagonal`."""
    traces = _mean_of_rows(subject, lambda rows, weights: (rows.square() * _column(weights, rows)).sum())
    return {name: float(trace) for name, trace in traces.items()}


def _mean_of_rows(subject: Subject, of: Callable[[Tensor, Tensor], Tensor]) -> Params:
    """The mean over examples of `of(rows [B, K, *parameter], weights [B, K])`, by parameter."""

    def rows(example: Tensor, target: Tensor) -> tuple[Params, Tensor]:
        pullback = torch.func.vjp(lambda params: subject.apply(params, example[None])[0], subject.params)
        root, weights = output_root(subject.criterion, pullback[0], target)
        return torch.func.vmap(pullback[1])(root.T)[0], weights

    total = {name: value.new_zeros(()) for name, value in subject.params.items()}
    for inputs, targets in _chunks(subject):
        gradients, weights = torch.func.vmap(rows)(inputs, targets)
        total = {name: total[name] + of(gradients[name], weights) for name in total}
    return {name: value / len(subject.inputs) for name, value in total.items()}


def _chunks(subject: Subject) -> Iterator[tuple[Tensor, Tensor]]:
    held = subject.size * subject.classes * next(iter(subject.params.values())).element_size()
    size = max(1, min(subject.batch_size, PULLBACK_BYTES // held))
    yield from zip(subject.inputs.split(size), subject.targets.split(size), strict=True)


def _column(weights: Tensor, rows: Tensor) -> Tensor:
    """Weights [B, K] shaped to multiply rows [B, K, ...]."""
    return weights.reshape(weights.shape + (1,) * (rows.ndim - 2))
