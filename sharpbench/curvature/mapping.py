"""Mapping: a function over many vectors, together where torch can vmap it and one by one where it cannot."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sharpbench.core.subject import Subject
from sharpbench.curvature.network import is_out_of_memory, network

MOST = 64
"""So many vectors at most are vmapped together; more share too little to be faster."""
PROBE_BYTES = 256 * 2**20
"""What the vectors that are vmapped together hold is kept below this, if one alone is."""


def mapped(function: Callable[[Tensor], Tensor], vectors: Tensor, together: int) -> Tensor:
    """function(v) for every v of `vectors` [m, ...], stacked; so many at once (recurrent networks: one by one)."""
    try:
        results: Tensor = torch.func.vmap(function, chunk_size=together)(vectors)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        results = torch.stack([function(vector) for vector in vectors])
    return results


def together(subject: Subject, limit: int = PROBE_BYTES) -> int:
    """How many vectors of the parameters' size are taken through the network at once, within `limit` bytes."""
    held = (
        subject.size * 4 + subject.batch_size * subject.once(network).sizes.results
    )  # a vector, its image, their pieces
    like = next(iter(subject.params.values()))
    return min(MOST, max(1, limit // (held * like.element_size())))
