"""Processes that divide the batches of one cell and add up their parts."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils import _pytree as pytree

from sharpbench.runner.engines.pool import DIVERGED

T = TypeVar("T")
TIMEOUT = datetime.timedelta(days=7)
"""How long a process waits for the others: practically for ever, as the parent ends all of them when one is gone."""


class GlooGroup:
    """One of `size` processes that meet at `meeting_file`; see `core.subject.ProcessGroup`.

    Every process must ask for the same sums in the same order, which holds where a measure depends only on its subject
    and its generator. Each sum carries its number and its shapes. Where they differ, all raise RuntimeError, and the
    group is broken: what one process asks next is no longer what another answers.
    """

    def __init__(self, meeting_file: Path, rank: int, size: int) -> None:
        self.rank, self.size, self.broken, self._sums = rank, size, False, 0
        address = meeting_file.as_uri()
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=size, timeout=TIMEOUT)

    def total(self, tree: T) -> T:
        """The sum of a tree of tensors over all processes, the same bits in each."""
        leaves, structure = pytree.tree_flatten(tree)
        self._sums += 1
        shapes = [tuple(leaf.shape) if isinstance(leaf, Tensor) else () for leaf in leaves]
        self._check_agreement(self._sums, len(leaves), sum(_hash_shape(shape) for shape in shapes))
        return pytree.tree_unflatten([_add_up(leaf) for leaf in leaves], structure)  # type: ignore[no-any-return]

    def finish(self) -> None:
        """Mark the end of a measure. Raises RuntimeError where another process is not at its end."""
        if not self.broken:
            sums, self._sums = self._sums, 0
            self._check_agreement(-1 - sums)

    def _check_agreement(self, *numbers: int) -> None:
        mark = torch.zeros(3, dtype=torch.int64)
        mark[: len(numbers)] = torch.tensor(numbers)
        marks = [torch.empty_like(mark) for _ in range(self.size)]
        dist.all_gather(marks, mark)
        if any(not torch.equal(each, mark) for each in marks):
            self.broken = True
            raise RuntimeError(DIVERGED)


def _hash_shape(shape: tuple[int, ...]) -> int:
    """A number that other shapes hardly have, the same in every process."""
    mixed = 7
    for size in shape:
        mixed = (mixed * 1_000_003 + size) % 2**31
    return mixed


def _add_up(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        number = torch.tensor(leaf, dtype=torch.float64)
        dist.all_reduce(number)
        return type(leaf)(number)
    held = leaf.detach().to("cpu", copy=True).contiguous()
    dist.all_reduce(held)
    return held.to(leaf.device)
