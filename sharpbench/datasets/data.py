"""Dataset, the contract of a data set by name, and Data, what loading one gives."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """A data set as tensors: inputs float32 [n, channels, height, width]; targets int64 [n], 0..classes-1."""

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.train_inputs.shape[1:])

    def sha256(self) -> str:
        """The hash of the content: of every tensor's type, shape and bytes, whatever file it came from."""
        digest = hashlib.sha256()
        for tensor in (self.train_inputs, self.train_targets, self.test_inputs, self.test_targets):
            digest.update(f"{tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Dataset(ABC):
    """A data set by name: a frozen value; its fields are its options, `name[field=value]` when typed."""

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def load(self, folder: Path | None) -> Data:
        """The data. `folder`: where the files lie (--data-dir or $SHARPBENCH_DATA); None where none is named.

        Raises InvalidInput, one line, for files that are missing (it says where to put which) or damaged.
        """


def pixels(images: Tensor) -> Tensor:
    """Pixels of 0..1 scaled to -1..1: (x - 0.5) / 0.5, float32."""
    return ((images.to(torch.float32) - 0.5) / 0.5).contiguous()
