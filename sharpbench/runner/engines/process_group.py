"""Team: processes that divide the batches of one cell and add up what each has."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils import _pytree as pytree

from sharpbench.runner.engines.base import APART

T = TypeVar("T")
PATIENCE = datetime.timedelta(days=7)
"""Those who wait for the others wait: the parent ends all when one is gone."""


class GlooGroup:
    """One of `size` processes that meet at the file `place`; see `subject.Team`.

    Every process must ask for the same sums in the same order, which holds where a measure depends on its subject
    and its generator alone. Each sum carries its number and its shapes; where they differ, all raise RuntimeError, and
    the team is broken: what one asks next is no longer what another answers.
    """

    def __init__(self, place: Path, rank: int, size: int) -> None:
        self.rank, self.size, self.broken, self._sums = rank, size, False, 0
        dist.init_process_group("gloo", init_method=place.as_uri(), rank=rank, world_size=size, timeout=PATIENCE)

    def total(self, tree: T) -> T:
        """The sum of a tree of tensors over all processes, the same bits in each."""
        leaves, form = pytree.tree_flatten(tree)
        self._sums += 1
        shapes = [tuple(leaf.shape) if isinstance(leaf, Tensor) else () for leaf in leaves]
        self._agree(self._sums, len(leaves), sum(_mixed(shape) for shape in shapes))
        return pytree.tree_unflatten([_added(leaf) for leaf in leaves], form)  # type: ignore[no-any-return]

    def finish(self) -> None:
        """A measure has come to its end; raises RuntimeError where others are not at theirs."""
        if not self.broken:
            sums, self._sums = self._sums, 0
            self._agree(-1 - sums)

    def _agree(self, *numbers: int) -> None:
        mark = torch.zeros(3, dtype=torch.int64)
        mark[: len(numbers)] = torch.tensor(numbers)
        marks = [torch.empty_like(mark) for _ in range(self.size)]
        dist.all_gather(marks, mark)
        if any(not torch.equal(each, mark) for each in marks):
            self.broken = True
            raise RuntimeError(APART)


def _mixed(shape: tuple[int, ...]) -> int:
    """A number that other shapes hardly have, the same in every process."""
    mixed = 7
    for size in shape:
        mixed = (mixed * 1_000_003 + size) % 2**31
    return mixed


def _added(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        number = torch.tensor(leaf, dtype=torch.float64)
        dist.all_reduce(number)
        return type(leaf)(number)
    held = leaf.detach().to("cpu", copy=True).contiguous()
    dist.all_reduce(held)
    return held.to(leaf.device)
