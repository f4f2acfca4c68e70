"""Dataset, the contract of a data set by name; Data, what loading one gives; Examples, a choice of them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from sharpbench.environment import free_bytes
from sharpbench.errors import InvalidInput, short

Transform = Callable[[Any], Tensor]
"""From an image of PIL's in colour to an input."""
Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """A data set as tensors: inputs float32 [n, channels, height, width]; targets int64 [n], 0..classes-1.

    images: whether the inputs are `scale_pixels` of images, which a network's own transform can be given.
    """

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    classes: int
    images: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.train_inputs.shape[1:])

    def sha256(self) -> str:
        """The hash of the content: of every tensor's type, shape and bytes, whatever file it came from."""
        return content_sha256((self.train_inputs, self.train_targets, self.test_inputs, self.test_targets))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """Which examples: of `split`, all or a draw of `limit` without replacement by `seed`, in their order."""

    split: Split = "train"
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in get_args(Split):
            raise InvalidInput(f"split '{short(str(self.split))}' is none of {', '.join(get_args(Split))}")
        if self.limit is not None and self.limit < 1:
            raise InvalidInput(f"limit={self.limit} must be at least 1")
        if not 0 <= self.seed < 2**64:
            raise InvalidInput(f"subset seed {self.seed} must be from 0 to {2**64 - 1}")

    def of(self, available: int) -> Tensor:
        """Indices, rising, into `available` examples. Raises InvalidInput where there are fewer than `limit`."""
        if available == 0:
            raise InvalidInput(f"the {self.split} split of this data set holds no example; choose another --split")
        if self.limit is None:
            return torch.arange(available)
        if self.limit > available:
            raise InvalidInput(f"limit={self.limit} exceeds the {available} {self.split} examples; choose fewer")
        return torch.randperm(available, generator=torch.Generator().manual_seed(self.seed))[: self.limit].sort().values


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Some examples of a data set, as a network takes them: inputs [n, ...], targets [n] of 0..classes-1.

    available: how many the split holds.
    """

    inputs: Tensor
    targets: Tensor
    classes: int
    available: int

    def sha256(self) -> str:
        """The hash of the content."""
        return content_sha256((self.inputs, self.targets))


def content_sha256(tensors: Iterable[Tensor]) -> str:
    """The hash of every tensor's type, shape and bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Dataset(ABC):
    """A data set by name: a frozen value; its fields are its options, `name[field=value]` when typed.

    argument: the field that is written behind a colon, `npz:digits.npz`; None where there is none.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    argument: ClassVar[str | None] = None

    @abstractmethod
    def load(self, folder: Path | None) -> Data:
        """The data. `folder`: where the files lie (--data-dir or $SHARPBENCH_DATA); None where none is named.

        Raises InvalidInput, one line, for files that are missing (it says where to put which) or damaged.
        """

    def examples(self, folder: Path | None, subset: Subset, transform: Transform | None = None) -> Examples:
        """Some of the examples; where the network has a transform of its own, images go through that.

        Raises InvalidInput as `load` does, and for a transform where the inputs are no images.
        """
        data = self.load(folder)
        inputs, targets = {
            "train": (data.train_inputs, data.train_targets),
            "test": (data.test_inputs, data.test_targets),
        }[subset.split]
        chosen = subset.of(len(inputs))
        if transform is None:
            return Examples(inputs[chosen], targets[chosen], data.classes, len(inputs))
        if not data.images:
            raise InvalidInput(
                f"dataset '{self.name}' holds no images, which this network's own transform takes; "
                "choose a network that takes inputs as they are"
            )
        images = (transform(_to_pil_image(inputs[index])).unsqueeze(0) for index in chosen.tolist())
        return Examples(gather_examples(images, len(chosen)), targets[chosen], data.classes, len(inputs))


def gather_examples(batches: Iterable[Tensor], count: int) -> Tensor:
    """`count` inputs from batches of them, [B, ...] each. Raises InvalidInput where there is no memory for them."""
    inputs, filled = torch.empty(0), 0
    for batch in batches:
        if not filled:
            needed, free = count * batch[0].nbytes, free_bytes(torch.device("cpu"))
            if free is not None and needed > free:
                raise InvalidInput(
                    f"{count:,} inputs of {'x'.join(map(str, batch.shape[1:]))} take {needed / 2**30:.1f} GiB where "
                    f"{free / 2**30:.1f} GiB are free; draw fewer by --limit"
                )
            inputs = torch.empty(count, *batch.shape[1:], dtype=batch.dtype)
        inputs[filled : filled + len(batch)] = batch
        filled += len(batch)
    return inputs


def _to_pil_image(pixels: Tensor) -> Image.Image:
    """An image [1 or 3, height, width], scaled to -1..1, as PIL's in colour, with 256 levels."""
    levels = ((pixels + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(levels.squeeze(2) if levels.shape[2] == 1 else levels).convert("RGB")


def scale_pixels(images: Tensor) -> Tensor:
    """Pixels of 0..1 scaled to -1..1: (x - 0.5) / 0.5, float32."""
    return ((images.to(torch.float32) - 0.5) / 0.5).contiguous()
