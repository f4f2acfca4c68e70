"""Dataset, the contract of a data set; Data, its tensors; Subset and Examples, a selection of its examples."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from sharpbench.core.batch import Inputs, list_tensors
from sharpbench.environment import free_bytes
from sharpbench.errors import InvalidInput, describe_error, shorten

Transform = Callable[[Any], Tensor]
"""From a PIL image to an input tensor. The image is grey or in colour, as the data set holds it."""
Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """A data set as tensors.

    Attributes:
        train_inputs: float32 [n, channels, height, width], or another shape [n, ...]; int64 for numbers of tokens.
        train_targets: int64 [n], from 0 to classes - 1.
        test_inputs: as `train_inputs`.
        test_targets: as `train_targets`.
        classes: the number of classes.
        images: whether the inputs are images scaled by `scale_pixels`, to which a model's transform can be applied.
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

    def of(self, split: Split) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a split."""
        if split == "train":
            return self.train_inputs, self.train_targets
        return self.test_inputs, self.test_targets

    def sha256(self) -> str:
        """The SHA-256 of the content: of every tensor's dtype, shape and bytes."""
        return content_sha256((self.train_inputs, self.train_targets, self.test_inputs, self.test_targets))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """A selection of examples: all of `split`, or `limit` of them drawn without replacement, in their order.

    Args:
        split: "train" or "test".
        limit: the number of examples; None takes all.
        seed: the seed of the draw.
    """

    split: Split = "train"
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in get_args(Split):
            raise InvalidInput(f"split '{shorten(str(self.split))}' is none of {', '.join(get_args(Split))}")
        if self.limit is not None and self.limit < 1:
            raise InvalidInput(f"limit={self.limit} must be at least 1")
        if not 0 <= self.seed < 2**64:
            raise InvalidInput(f"subset seed {self.seed} must be from 0 to {2**64 - 1}")

    def indices(self, available: int) -> Tensor:
        """The selected indices into `available` examples, ascending, int64.

        Raises InvalidInput where there are none, or fewer than `limit`.
        """
        if available == 0:
            raise InvalidInput(f"the {self.split} split of this data set holds no example; choose another --split")
        if self.limit is None:
            return torch.arange(available)
        if self.limit > available:
            raise InvalidInput(f"limit={self.limit} exceeds the {available} {self.split} examples; choose fewer")
        return torch.randperm(available, generator=torch.Generator().manual_seed(self.seed))[: self.limit].sort().values


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Selected examples of a data set, as a network takes them.

    Attributes:
        inputs: [n, ...], a tensor or, from a user's loader, a tree of tensors.
        targets: [n], from 0 to classes - 1; of a user's loader [n, ...], of any type.
        classes: the number of classes.
        available: the number of examples in the split.
        images: whether the inputs are images scaled by `scale_pixels`.
    """

    inputs: Inputs
    targets: Tensor
    classes: int
    available: int
    images: bool = False

    def sha256(self) -> str:
        """The SHA-256 of the content."""
        return content_sha256((*list_tensors(self.inputs), self.targets))


def content_sha256(tensors: Iterable[Tensor]) -> str:
    """The SHA-256 of every tensor's dtype, shape and bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())  # numpy has no bfloat16
    return digest.hexdigest()


@dataclass(frozen=True)
class Dataset(ABC):
    """A data set: a frozen value whose fields are its options, written `name[field=value]` on the command line.

    To add a data set, subclass Dataset as a frozen dataclass in a module of `sharpbench/datasets/`, set the class
    variables, implement `load`, and append the class to DATASETS in `sharpbench/datasets/__init__.py`.
    `tests/datasets/test_catalogue.py` tests every class of DATASETS, so a new test file holds only what is particular
    to the data set. In a plugin, list the class in the plugin module's DATASETS instead.

    Attributes:
        name: the name on the command line: lower-case letters, digits and hyphens.
        title: one line for `sharpbench list`.
        source: the publication.
        argument: the field that is written after a colon, as in `npz:digits.npz`; None if there is none.
        prepared: whether inputs are as networks take them, so that no model's transform is applied.
        mirror_keeps_class: whether an image that is mirrored left to right is still of its class, so that augmentation
            may mirror it.

    >>> from dataclasses import dataclass
    >>> from pathlib import Path
    >>> import torch
    >>> from sharpbench import Data, Dataset
    >>> @dataclass(frozen=True)
    ... class Parity(Dataset):
    ...     name = "parity"
    ...     title = "the parity of four bits"
    ...     source = "an example"
    ...
    ...     def load(self, folder: Path | None) -> Data:
    ...         inputs = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    ...         targets = inputs.sum(1).long() % 2
    ...         return Data(inputs[:12], targets[:12], inputs[12:], targets[12:], classes=2)
    >>> Parity().load(None).shape
    (4,)
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    argument: ClassVar[str | None] = None
    prepared: ClassVar[bool] = False
    mirror_keeps_class: ClassVar[bool] = False

    @abstractmethod
    def load(self, folder: Path | None) -> Data:
        """The whole data set.

        Args:
            folder: the folder of the files (--data-dir or $SHARPBENCH_DATA); None where the user names none.

        Raises:
            InvalidInput: for files that are damaged, or missing; the message is one line and says which file
                belongs where.
        """

    def examples(self, folder: Path | None, subset: Subset, transform: Transform | None = None) -> Examples:
        """The examples that `subset` selects.

        Args:
            folder: as for `load`.
            subset: which examples.
            transform: is applied to each image; a model's transform (Model.transform) is given `in_colour`.

        Raises:
            InvalidInput: as `load` does; for a subset that is too large; and for a transform where the inputs are
                not images.
        """
        data = self.load(folder)
        inputs, targets = data.of(subset.split)
        chosen = subset.indices(len(inputs))
        if transform is None:
            return Examples(inputs[chosen], targets[chosen], data.classes, len(inputs), data.images)
        if not data.images:
            remedy = f"write 'timm:NAME[size={data.shape[-1]}]'" if len(data.shape) == 3 else "choose another network"
            raise InvalidInput(
                f"dataset '{self.name}' holds arrays of shape {list(data.shape)} and not images, to which this "
                f"network's transform is applied; to take them as they are, {remedy}"
            )
        return Examples(_transform_images(inputs[chosen], transform), targets[chosen], data.classes, len(inputs))

    def notes(self, folder: Path | None) -> tuple[str, ...]:
        """What a user should know about the files before results are shown, one line each; folder: as for `load`."""
        return ()

    def holds_images(self, folder: Path | None) -> bool:
        """Whether a model's transform can be applied to the inputs that `folder` holds (see Data.images)."""
        return self.load(folder).images

    def load_transformed(self, folder: Path | None, transform: Transform) -> Data:
        """The whole data set of `folder`, with `transform` applied to each image.

        Raises InvalidInput as `load` does, and where memory is too small.
        """
        data = self.load(folder)
        train, test = (_transform_images(data.of(split)[0], transform) for split in get_args(Split))
        return Data(train, data.train_targets, test, data.test_targets, classes=data.classes)


@contextmanager
def refusing_load_errors(dataset: Dataset) -> Iterator[None]:
    """A block that reads the data set; whatever its code raises there becomes an InvalidInput of one line."""
    try:
        yield
    except InvalidInput:
        raise
    except (Exception, SystemExit) as error:  # of a file that ends too soon, or of the plugin's own code
        raise InvalidInput(
            f"dataset '{dataset.name}' cannot be loaded: {describe_error(error)}; check its files"
        ) from error


def _transform_images(inputs: Tensor, transform: Transform) -> Tensor:
    """`transform` of each image of `inputs` [n, 1 or 3, height, width], which are scaled to -1..1."""
    images = (transform(_to_pil_image(pixels)).unsqueeze(0) for pixels in inputs)
    return gather_examples(images, len(inputs))


def gather_examples(batches: Iterable[Tensor], count: int) -> Tensor:
    """`count` inputs, [count, ...], from batches [B, ...]. Raises InvalidInput where memory is too small for them."""
    inputs, filled = torch.empty(0), 0
    for batch in batches:
        if not filled:
            needed, free = count * batch[0].nbytes, free_bytes(torch.device("cpu"))
            if free is not None and needed > free:
                raise InvalidInput(
                    f"{count:,} inputs of {'x'.join(map(str, batch.shape[1:]))} take {needed / 2**30:.1f} GiB where "
                    f"{free / 2**30:.1f} GiB are free; measure fewer (--limit), or smaller ones ('timm:NAME[size=32]')"
                )
            inputs = torch.empty(count, *batch.shape[1:], dtype=batch.dtype)
        inputs[filled : filled + len(batch)] = batch
        filled += len(batch)
    return inputs


def in_colour(transform: Transform) -> Transform:
    """`transform` of the image in colour."""
    return lambda image: transform(image.convert("RGB"))


def _to_pil_image(pixels: Tensor) -> Image.Image:
    """The PIL image, with 256 levels, of an image [1 or 3, height, width] scaled to -1..1."""
    levels = ((pixels + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(levels.squeeze(2) if levels.shape[2] == 1 else levels)


def scale_pixels(images: Tensor) -> Tensor:
    """Pixels of 0..1 scaled to -1..1: (x - 0.5) / 0.5, float32.

    >>> scale_pixels(torch.tensor([0.0, 0.25, 1.0]))
    tensor([-1.0000, -0.5000,  1.0000])
    """
    return ((images.to(torch.float32) - 0.5) / 0.5).contiguous()
