"""Processes that evaluate one measure together, each on its share of the batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sharpbench.core.batch import Inputs
from sharpbench.core.precision import sum_trees

T = TypeVar("T")
Batch: TypeAlias = "tuple[Inputs, Tensor]"
"""Inputs [B, ...] and targets [B, ...]."""


class ProcessGroup(Protocol):
    """Processes that evaluate the same measure at the same time and divide the batches among them."""

    rank: int
    size: int
    broken: bool

    def total(self, tree: T) -> T:
        """The sum of a tree of tensors over all processes, the same bits in each."""

    def finish(self) -> None:
        """A measure has come to its end; raises RuntimeError where others are not at theirs."""


def sum_batches(batches: Sequence[Batch], of: Callable[[Any, Tensor], T], group: ProcessGroup | None) -> T:
    """The mean over the examples of all batches of `of(inputs, targets)`, itself a mean over one batch.

    In a group of n processes each takes every n-th batch; what is differentiated from outside is not divided.
    """
    total = sum(len(targets) for _, targets in batches)

    def part(inputs: Inputs, targets: Tensor) -> T:
        share = len(targets) / total
        return cast(T, pytree.tree_map(lambda tensor: tensor * share, of(inputs, targets)))

    if group is None or len(batches) < group.size:  # as every process finds
        return sum_trees(part(*batch) for batch in batches)
    mine = sum_trees(part(*batch) for batch in batches[group.rank :: group.size])
    if any(_is_traced(leaf) for leaf in pytree.tree_leaves(mine)):
        return sum_trees(part(*batch) for batch in batches)
    return group.total(mine)


def join_batches(batches: Sequence[Batch], of: Callable[[Any, Tensor], Tensor], group: ProcessGroup | None) -> Tensor:
    """The values [B, ...] of `of(inputs, targets)` of all batches, joined; batches are divided likewise."""
    if group is None or len(batches) < group.size:
        return torch.cat([of(*batch) for batch in batches])
    found = {place: of(*batches[place]) for place in range(group.rank, len(batches), group.size)}
    like = found[group.rank]
    blank = [like.new_zeros((len(targets), *like.shape[1:])) for _, targets in batches]
    return group.total(torch.cat([found.get(place, zeros) for place, zeros in enumerate(blank)]))


def _is_traced(value: object) -> bool:
    """Whether a derivative is being taken of the tensor, or it stands for several."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return isinstance(value, Tensor) and (value.requires_grad or wrapped(value))
