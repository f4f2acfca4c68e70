"""Mapping: a function over many vectors, together where torch can vmap it and one by one where it cannot."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sharpbench.curvature.network import is_out_of_memory


def mapped(function: Callable[[Tensor], Tensor], vectors: Tensor, together: int) -> Tensor:
    """function(v) for every v of `vectors` [m, ...], stacked; so many at once (recurrent networks: one by one)."""
    try:
        results: Tensor = torch.func.vmap(function, chunk_size=together)(vectors)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        results = torch.stack([function(vector) for vector in vectors])
    return results
