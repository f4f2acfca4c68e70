"""Probes: random vectors with E[v v^T] = I, drawn on the CPU so that every device sees the same."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sharpbench.errors import InvalidInput

Distribution = Literal["rademacher", "gaussian"]


def signs(like: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` vectors of random signs [count, *like.shape]."""
    drawn = torch.randint(0, 2, (count, *like.shape), generator=generator, dtype=torch.int8) * 2 - 1
    return drawn.to(device=like.device, dtype=like.dtype)


def draw(like: Tensor, count: int, generator: torch.Generator, distribution: Distribution = "rademacher") -> Tensor:
    """`count` probes [count, *like.shape]: random signs, or standard normal ones."""
    if distribution == "rademacher":
        return signs(like, count, generator)
    if distribution == "gaussian":
        drawn = torch.randn((count, *like.shape), generator=generator, dtype=torch.float64)
        return drawn.to(device=like.device, dtype=like.dtype)
    raise InvalidInput(f"distribution '{distribution}' is unknown; use 'rademacher' or 'gaussian'")
