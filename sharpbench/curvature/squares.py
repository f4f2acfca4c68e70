"""Sums over examples and columns of squared per-example gradients of one affine layer."""

from __future__ import annotations

from torch import Tensor


def weight_trace(patches: Tensor, slopes: Tensor) -> Tensor:
    """sum_{i,k} |sum_t delta_ikt a_it^T|^2, a scalar.

    patches a [B, G, P, T], slopes delta [B, G, K, O, T]. With one position |a|^2 sum_k |delta_k|^2; with more
    either the gradients are formed (K O T P multiplications an example and group), or their norms are read off
    Gram matrices of positions, <a^T a, sum_k delta_k^T delta_k> (T^2 (P + K O)), in float64 as that form
    cancels where activations share an offset; whichever is cheaper.
    """
    count, out, positions = slopes.shape[2:]
    width = patches.shape[2]
    if positions == 1:
        return (patches.square().sum((2, 3)) * slopes.square().sum((2, 3, 4))).sum()
    if positions * (width + count * out) < count * out * width / GRAM_COST:
        inner = patches.double().transpose(2, 3) @ patches.double()
        stacked = slopes.flatten(2, 3).double()
        outer = stacked.transpose(2, 3) @ stacked
        total: Tensor = (inner * outer).sum()
        return total.to(slopes.dtype)
    return _gradients(patches, slopes).square().sum()


GRAM_COST = 2.0
"""A multiplication of the Gram form, in float64, takes about as long as so many of the direct form in float32."""


def weight_diagonal(patches: Tensor, slopes: Tensor) -> Tensor:
    """sum_{i,k} (sum_t delta_ikt a_it^T)^2, elementwise, [G, O, P]; see `weight_trace` for the shapes."""
    if slopes.shape[4] == 1:
        squares = slopes.square().sum((2, 4))  # [B, G, O]
        products: Tensor = squares.movedim(0, 2) @ patches.squeeze(3).square().movedim(0, 1)
        return products
    gradients: Tensor = _gradients(patches, slopes).unflatten(2, slopes.shape[2:4])
    return gradients.square().sum((0, 2))


def _gradients(patches: Tensor, slopes: Tensor) -> Tensor:
    """Per-example gradients [B, G, K O, P] of all columns."""
    return slopes.flatten(2, 3) @ patches.transpose(2, 3)


def bias_squares(slopes: Tensor) -> Tensor:
    """sum_{i,k} (sum_t delta_ikt)^2, elementwise, [G, O]."""
    return slopes.sum(4).square().sum((0, 2))
