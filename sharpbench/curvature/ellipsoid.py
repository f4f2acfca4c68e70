"""Ellipsoids: how far each parameter may move in a neighbourhood of the weights, relative to their size or not."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sharpbench.core.subject import Params

Scaling = Literal["element", "filter", "none"]


def axes(params: Params, scaling: Scaling, eta: float = 0.0) -> Tensor:
    """c >= 0 [P]: the neighbourhood of radius r is { e : |e / c|_p <= r }, and e_j = 0 where c_j = 0.

    element: c = |theta| + eta. filter: for tensors of three or more axes the norm of each slice along the first,
    a convolution's filter, + eta; for all others as element (Kwon et al. 2021). none: c = 1.
    """
    return torch.cat([_axis(value, scaling, eta).flatten() for value in params.values()])


def _axis(value: Tensor, scaling: Scaling, eta: float) -> Tensor:
    if scaling == "none":
        return torch.ones_like(value)
    if scaling == "filter" and value.ndim >= 3:
        norms: Tensor = torch.linalg.vector_norm(value.flatten(1), dim=1)
        return norms.reshape(-1, *(1,) * (value.ndim - 1)).expand_as(value) + eta
    return value.abs() + eta
