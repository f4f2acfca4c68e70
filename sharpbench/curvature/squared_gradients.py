"""Sums of squared per-example gradients of one affine layer: over columns, and of diagonals over examples too.

Shapes, here and below: patches a [B, G, P, T] and slopes delta [B, G, K, O, T], for B examples, K columns of the
output root, G groups, O outputs and P weights an output in each group, T positions. The gradient of example i
and column k by the weight is sum_t delta_ikt a_it^T, by the bias sum_t delta_ikt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

SLICE_BYTES = 4 * 2**20
"""Bytes of gradients that are formed and squared at a time: what stays in the cache is squared at hardly any cost."""

GRAM_COST = 1.5
"""A multiplication of the Gram form, whose matrices are small, takes as long as this number of the direct form."""

GRAM_FLOOR = 0.02
"""A Gram form smaller than this share of its terms' bound has cancelled and is replaced by the direct form."""


def traces(patches: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """`weight_trace` and `bias_trace`, sharing what they can."""
    if slopes.shape[4] > 1:
        return weight_trace(patches, slopes), bias_trace(slopes)
    norms = _norms(slopes)
    lengths = torch.linalg.vector_norm(patches, dim=2).square().sum(2)
    return (lengths * norms).sum(1), norms.sum(1)


def weight_trace(patches: Tensor, slopes: Tensor) -> Tensor:
    """sum_k |sum_t delta_ikt a_it^T|^2 of every example i, [B].

    With one position |a|^2 sum_k |delta_k|^2; with more either the gradients are formed (K O T P multiplications
    an example and group), or their norms are read off Gram matrices of positions, <a^T a, sum_k delta_k^T delta_k>
    (T^2 (P + K O)), whichever is cheaper. The Gram form cancels where activations share a large offset; its error
    is bounded by rounding of |a^T a| |sum_k delta_k^T delta_k|, so that it is seen and the direct form taken.
    """
    count, out, positions = slopes.shape[2:]
    width = patches.shape[2]
    if positions == 1:
        return traces(patches, slopes)[0]
    if positions * (width + count * out) * GRAM_COST < count * out * width:
        inner, outer = _gram(patches), _gram(slopes.flatten(2, 3))
        each: Tensor = (inner * outer).sum((1, 2, 3))
        bound = (torch.linalg.matrix_norm(inner) * torch.linalg.matrix_norm(outer)).sum()
        if bool(each.sum() >= GRAM_FLOOR * bound):
            return each
    return _by_example(patches, slopes, lambda rows: rows.square_().sum((1, 2, 3)))


def weighted_trace(patches: Tensor, slopes: Tensor, weights: Tensor) -> Tensor:
    """sum_k <w, (sum_t delta_ikt a_it^T)^2> of every example i, [B]: `weight_trace` with weights w [G, O, P]."""
    if slopes.shape[4] == 1:
        squares = slopes.squeeze(4).square().sum(2).movedim(1, 0)  # [G, B, O]
        each: Tensor = ((squares @ weights) * patches.squeeze(3).square().movedim(1, 0)).sum((0, 2))
        return each

    def of(rows: Tensor) -> Tensor:
        squares: Tensor = rows.square_().unflatten(2, (-1, slopes.shape[3])).sum(2)  # [some B, G, O, P]
        return squares.flatten(1) @ weights.flatten()

    return _by_example(patches, slopes, of)


def weight_diagonal(patches: Tensor, slopes: Tensor) -> Tensor:
    """sum_{i,k} (sum_t delta_ikt a_it^T)^2, elementwise, [G, O, P]."""
    if slopes.shape[4] == 1:
        squares = slopes.squeeze(4).square().sum(2)  # [B, G, O]
        products: Tensor = squares.movedim(0, 2) @ patches.squeeze(3).square().movedim(0, 1)
        return products
    total = slopes.new_zeros((slopes.shape[1], slopes.shape[3], patches.shape[2]))
    for _, rows in gradients(patches, slopes):
        total += rows.square_().unflatten(2, (-1, slopes.shape[3])).sum((0, 2))
    return total


def bias_trace(slopes: Tensor) -> Tensor:
    """sum_k |sum_t delta_ikt|^2 of every example i, [B]."""
    return bias_squares(slopes).sum((1, 2))


def bias_squares(slopes: Tensor) -> Tensor:
    """sum_k (sum_t delta_ikt)^2 of every example i, elementwise, [B, G, O]."""
    return slopes.sum(4).square().sum(2)


def bias_diagonal(slopes: Tensor) -> Tensor:
    """sum_{i,k} (sum_t delta_ikt)^2, elementwise, [G, O]."""
    return slopes.sum(4).square().sum((0, 2))


def _norms(slopes: Tensor) -> Tensor:
    """sum_k |delta_k|^2 of each example and group [B, G], without a temporary of the slopes' size."""
    norms: Tensor = torch.linalg.vector_norm(slopes, dim=(2, 3, 4))
    return norms.square()


def _gram(values: Tensor) -> Tensor:
    """values^T values [B, G, T, T], for values [B, G, any, T]."""
    return values.transpose(2, 3) @ values


def _by_example(patches: Tensor, slopes: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """The sums [B] over the slices of the gradients of each example, of(rows [some B, G, some K * O, P]) [some B]."""
    found = slopes.new_zeros(len(slopes))
    for examples, rows in gradients(patches, slopes):
        found[examples] += of(rows)
    return found


def gradients(patches: Tensor, slopes: Tensor, *, together: int = 1) -> Iterator[tuple[slice, Tensor]]:
    """Per-example gradients [some B, G, some K * O, P] and whose they are: a few examples, or a few columns of one.

    together: at least this number of pairs of an example and a column come together, where there are enough.
    """
    columns = patches.transpose(2, 3)
    size = slopes.shape[1] * slopes.shape[3] * patches.shape[2] * slopes.element_size()
    fits = max(together, SLICE_BYTES // size)  # pairs of an example and a column
    few, some = max(1, fits // slopes.shape[2]), min(fits, slopes.shape[2])
    for start in range(0, len(slopes), few):
        examples = slice(start, start + few)
        for stacked in slopes[examples].split(some, dim=2):
            yield examples, stacked.flatten(2, 3) @ columns[examples]
