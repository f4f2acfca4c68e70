"""Published image data sets, read from the files and folders of torchvision; nothing is downloaded.

CIFAR's files are Python pickles, which could execute code. torchvision opens them only if each has the MD5 of the
published file, whose code is known. SVHN's files are checked likewise; Fashion-MNIST's files are plain bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from sharpbench.datasets.dataset import Data, Dataset, scale_pixels
from sharpbench.environment import import_torchvision
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import user_cache_folder


@final
@dataclass(frozen=True)
class Cifar10(Dataset):
    """60,000 photographs: inputs [50,000 + 10,000, 3, 32, 32], pixels scaled to -1..1; ten classes."""

    name: ClassVar[str] = "cifar10"
    title: ClassVar[str] = "CIFAR-10: 50,000 + 10,000 photographs, 3x32x32, from files"
    source: ClassVar[str] = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
    mirror_keeps_class: ClassVar[bool] = True

    def load(self, folder: Path | None) -> Data:
        """CIFAR-10 from `folder`/cifar-10-batches-py."""
        return _load(self.name, "cifar-10-batches-py", folder, "CIFAR10", classes=10)


@final
@dataclass(frozen=True)
class Cifar100(Dataset):
    """60,000 photographs: inputs [50,000 + 10,000, 3, 32, 32], pixels scaled to -1..1; a hundred (fine) classes."""

    name: ClassVar[str] = "cifar100"
    title: ClassVar[str] = "CIFAR-100: 50,000 + 10,000 photographs, 3x32x32, from files"
    source: ClassVar[str] = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
    mirror_keeps_class: ClassVar[bool] = True

    def load(self, folder: Path | None) -> Data:
        """CIFAR-100 from `folder`/cifar-100-python."""
        return _load(self.name, "cifar-100-python", folder, "CIFAR100", classes=100)


@final
@dataclass(frozen=True)
class FashionMnist(Dataset):
    """70,000 pictures of clothes: inputs [60,000 + 10,000, 1, 28, 28], pixels scaled to -1..1; ten classes."""

    name: ClassVar[str] = "fashion-mnist"
    title: ClassVar[str] = "Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 1x28x28, from files"
    source: ClassVar[str] = "Xiao, Rasul, Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747"
    mirror_keeps_class: ClassVar[bool] = True

    def load(self, folder: Path | None) -> Data:
        """Fashion-MNIST from `folder`/FashionMNIST/raw, unpacked."""
        return _load(self.name, "FashionMNIST/raw", folder, "FashionMNIST", classes=10)


@final
@dataclass(frozen=True)
class Svhn(Dataset):
    """99,289 house numbers: inputs [73,257 + 26,032, 3, 32, 32], pixels scaled to -1..1; ten classes."""

    name: ClassVar[str] = "svhn"
    title: ClassVar[str] = "SVHN: 73,257 + 26,032 digits of house numbers, 3x32x32, from files"
    source: ClassVar[str] = "Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011"

    def load(self, folder: Path | None) -> Data:
        """SVHN from `folder`/train_32x32.mat and test_32x32.mat."""
        return _load(self.name, "train_32x32.mat and test_32x32.mat", folder, "SVHN", classes=10)


def _load(name: str, files: str, folder: Path | None, cls: str, *, classes: int) -> Data:
    """The data set that torchvision's class `cls` reads from `files` in `folder`; None means the user's cache."""
    root = folder or user_cache_folder() / "data"
    reader = getattr(import_torchvision().datasets, cls)
    splits = ({"split": "train"}, {"split": "test"}) if cls == "SVHN" else ({"train": True}, {"train": False})
    try:
        train, test = (_to_tensors(reader(root, **split)) for split in splits)
    except (RuntimeError, OSError, ValueError, AssertionError) as error:  # from torchvision and scipy, about the files
        raise InvalidInput(
            f"dataset '{name}' is missing or damaged in '{root}' ({shorten(str(error))}); put its {files}, as "
            "published, there, or name another folder by --data-dir or $SHARPBENCH_DATA"
        ) from error
    return Data(*train, *test, classes=classes, images=True)


def _to_tensors(read: Any) -> tuple[Tensor, Tensor]:
    """Inputs and targets of one of torchvision's data sets."""
    images = torch.as_tensor(read.data)
    targets = torch.as_tensor(read.labels if hasattr(read, "labels") else read.targets).long()
    if images.ndim == 3:
        images = images.unsqueeze(1)  # grey, [n, height, width]
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2)  # channels last
    return scale_pixels(images.to(torch.float32) / 255), targets
