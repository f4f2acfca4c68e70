"""The rules of SAM and its variants, written once: for the recipes, and for the optimisers of one's own loop.

A rule is a function of lists of tensors, one tensor per parameter. What differs between the two uses is the arithmetic
with constants. In a recipe each tensor holds m networks, [m, ...], and a constant has one value per network, [m]. In
one's own loop each tensor is a parameter, and a constant is a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

Vector = list[Tensor]
"""The parameters, or what has their shapes: gradients, directions."""
MIN_NORM = 1e-12
"""The smallest norm by which a direction is divided, so that a gradient of zeros gives no ascent and no NaN."""
NORMALIZED_NAME = "weight"
"""What the names of the parameters contain that the authors of ASAM normalise (github.com/SamsungLabs/ASAM)."""
Constant = TypeVar("Constant", bound=float | Tensor, contravariant=True)


class Arithmetic(Protocol[Constant]):
    """Arithmetic of parameters with constants.

    Attributes:
        leading: the dimensions of a tensor before those of its parameter.
    """

    leading: int

    def add_scaled(self, vector: Vector, length: Constant, direction: Vector) -> list[Tensor]:
        """vector + length direction."""

    def interpolate(self, start: Vector, end: Vector, share: Constant) -> list[Tensor]:
        """(1 - share) start + share end."""

    def shift(self, vector: Vector, constant: Constant) -> list[Tensor]:
        """vector + constant, by entry."""


def ascent_length(radius: float | Tensor, norm: Tensor) -> Tensor:
    """The factor of the direction in an ascent step of length `radius`, where `norm` measures the direction."""
    return radius / norm.clamp_min(MIN_NORM)


def adaptive_direction(
    arithmetic: Arithmetic[Constant],
    weights: Vector,
    gradients: Vector,
    eta: Constant,
    *,
    normalized: Sequence[bool],
    filters: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """The ascent direction of ASAM, T^2 g, and T g, whose norm measures it (Kwon et al. 2021).

    Args:
        arithmetic: that of the constants.
        weights: the parameters theta.
        gradients: g.
        eta: the term that is added to |theta|.
        normalized: for each parameter, whether T = |theta| + eta; otherwise T = 1.
        filters: take the norm of each filter in place of |theta|, where a weight has more than two dimensions.
    """
    directions, measured = list(gradients), list(gradients)
    chosen = [index for index, each in enumerate(normalized) if each]
    if not chosen:
        return directions, measured
    sizes = [_sizes(weights[index], arithmetic.leading, filters=filters) for index in chosen]
    scales = arithmetic.shift(sizes, eta)
    scaled = torch._foreach_mul(scales, [gradients[index] for index in chosen])
    for index, direction, each in zip(chosen, torch._foreach_mul(scales, scaled), scaled, strict=True):
        directions[index], measured[index] = direction, each
    return directions, measured


def _sizes(weight: Tensor, leading: int, *, filters: bool) -> Tensor:
    """|theta| by entry, or the norms of the filters in a shape that multiplies them."""
    if not filters or weight.ndim - leading <= 2:
        return weight.abs()
    kept = leading + 1
    norms: Tensor = torch.linalg.vector_norm(weight.flatten(kept), dim=kept)
    return norms.reshape(*weight.shape[:kept], *(1,) * (weight.ndim - kept))


def friendly_direction(
    arithmetic: Arithmetic[Constant], gradients: Vector, mean: Vector, negative_sigma: Constant
) -> list[Tensor]:
    """The ascent direction of F-SAM, g - sigma m, m the mean of earlier steps and 0 in the first (Li et al. 2024)."""
    return arithmetic.add_scaled(gradients, negative_sigma, mean)


def friendly_mean(
    arithmetic: Arithmetic[Constant], gradients: Vector, mean: Vector, new_share: Constant
) -> list[Tensor]:
    """The moving average of F-SAM after a step: smoothing m + (1 - smoothing) g; after the first step it is g.

    new_share: 1 - smoothing.
    """
    return arithmetic.interpolate(mean, gradients, new_share)


def parallel_gradient(
    arithmetic: Arithmetic[Constant], above: Vector, auxiliary: Vector, weight: Constant
) -> list[Tensor]:
    """The gradient of a step of SAMPa: (1 - weight) g(above) + weight g(y) (Xie, Pethick, Cevher 2024)."""
    return arithmetic.interpolate(above, auxiliary, weight)


def gap_share(product: Tensor, norm: Tensor) -> Tensor:
    """The factor c of g_p in the part of g along g_p: <g, g_p> / |g_p|^2 (Zhuang et al. 2022)."""
    return product / norm.clamp_min(MIN_NORM).square()


def gap_gradient(
    arithmetic: Arithmetic[float | Tensor], clean: Vector, above: Vector, share: Tensor, alpha: float
) -> list[Tensor]:
    """The gradient of a step of GSAM: g_p - alpha (g - c g_p), g at the weights and g_p above (Zhuang et al. 2022).

    share: c, as `gap_share` returns it.
    """
    orthogonal = arithmetic.add_scaled(clean, -share, above)
    return arithmetic.add_scaled(above, -alpha, orthogonal)
