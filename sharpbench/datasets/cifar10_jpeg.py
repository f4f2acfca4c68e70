"""CIFAR-10 recompressed as JPEG: 60,000 photographs in one zip file, decoded once and kept in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpbench.core.fields import check_fields
from sharpbench.datasets.dataset import Data, Dataset, scale_pixels
from sharpbench.datasets.decode import decode_image
from sharpbench.datasets.guards import READ_ERRORS
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import atomic_write, cache_folder, check_plain_file, user_cache_folder

ARCHIVE = "cifar10-jpeg.zip"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""The folders of the classes, in the order of their numbers, which is that of CIFAR-10."""
TRAIN_PER_CLASS, TEST_PER_CLASS = 5000, 1000
EDGE = 32
MAX_ARCHIVE_BYTES = 2**27
"""The published file has 62 MB; a larger one is refused before its table of contents is read."""
MAX_IMAGE_BYTES = 2**16
"""The published images have up to 1,124 bytes; a larger one is refused before it is read."""
PIXELS_SHA256 = "aaf6162ad480776ee3eb14ed0ed50490f1eda7744e5c0c9a6cb118a510d584b7"
"""SHA-256 of all decoded pixels, bytes [60,000, 32, 32, 3]: training and then test images, each class by class."""

Pixels = NDArray[np.uint8]


@final
@dataclass(frozen=True)
class Cifar10Jpeg(Dataset):
    """60,000 photographs: inputs [50,000 + 10,000, 3, 32, 32], pixels scaled to -1..1; ten classes.

    JPEG changes the pixels, so this is another data set than `cifar10`.

    Attributes:
        train_size: the number of training examples, the first ones of each class in equal parts.
        test_size: the same of the test examples.
    """

    name: ClassVar[str] = "cifar10-jpeg"
    title: ClassVar[str] = "CIFAR-10 recompressed as JPEG: 50,000 + 10,000 photographs, 3x32x32, from one zip file"
    source: ClassVar[str] = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; recompressed"
    mirror_keeps_class: ClassVar[bool] = True
    train_size: int = TRAIN_PER_CLASS * len(CLASSES)
    test_size: int = TEST_PER_CLASS * len(CLASSES)

    def __post_init__(self) -> None:
        check_fields(self, kind="dataset")
        for name, size, most in (
            ("train_size", self.train_size, TRAIN_PER_CLASS),
            ("test_size", self.test_size, TEST_PER_CLASS),
        ):
            if size % len(CLASSES) or not 1 <= size // len(CLASSES) <= most:
                raise InvalidInput(
                    f"dataset '{self.name}': {name}={size} must be a multiple of {len(CLASSES)} from {len(CLASSES)} to "
                    f"{most * len(CLASSES):,}"
                )

    def load(self, folder: Path | None) -> Data:
        """The photographs in `folder`/cifar10-jpeg.zip, or in the folder cifar10-jpeg below it.

        The decoded pixels are kept in the cache ($SHARPBENCH_CACHE), which is read instead where it holds them intact.
        Decoding takes 6 s, reading 2 s. The pixels must be those of the published file bit by bit.

        Raises:
            InvalidInput: for a file that is missing or damaged, or holds other images.
        """
        train, test = _split_classes(_load_pixels(folder))
        train_inputs, train_targets = _take_first(train, self.train_size)
        test_inputs, test_targets = _take_first(test, self.test_size)
        return Data(train_inputs, train_targets, test_inputs, test_targets, classes=len(CLASSES), images=True)


def _split_classes(pixels: Pixels) -> tuple[Pixels, Pixels]:
    """The training and the test images, each [class, n, height, width, 3]."""
    count = TRAIN_PER_CLASS * len(CLASSES)
    parts = (pixels[:count], pixels[count:])
    train, test = (part.reshape(len(CLASSES), -1, *pixels.shape[1:]) for part in parts)
    return train, test


def _take_first(images: Pixels, size: int) -> tuple[Tensor, Tensor]:
    """The inputs [size, 3, height, width] and targets [size] of the first images [class, n, ...] of each class."""
    each = size // len(CLASSES)
    chosen = torch.from_numpy(images[:, :each].reshape(size, *images.shape[2:]))
    inputs = scale_pixels(chosen.permute(0, 3, 1, 2).to(torch.float32) / 255)
    return inputs, torch.arange(len(CLASSES)).repeat_interleave(each)


def _load_pixels(folder: Path | None) -> Pixels:
    """All pixels, [n, height, width, 3], from the cache or decoded."""
    count = (TRAIN_PER_CLASS + TEST_PER_CLASS) * len(CLASSES)
    shape = (count, EDGE, EDGE, 3)
    kept = cache_folder(None) / "data" / "cifar10-jpeg.pixels"
    with contextlib.suppress(OSError, ValueError):  # of a cache that is missing, cut short or out of reach
        if kept.is_file():  # a pipe would never end
            pixels: Pixels = np.fromfile(kept, dtype=np.uint8, count=math.prod(shape)).reshape(shape)
            if _hash_pixels(pixels) == PIXELS_SHA256:
                return pixels
    path = _find_archive(folder)
    pixels = np.empty(shape, dtype=np.uint8)
    _decode_archive(path, pixels)
    if (found := _hash_pixels(pixels)) != PIXELS_SHA256:
        raise InvalidInput(
            f"dataset 'cifar10-jpeg': the images of '{path}' have the hash {found[:16]}... where "
            f"{PIXELS_SHA256[:16]}... is expected; replace the file by the published one, or install the version of "
            "pillow of constraints.txt, since it decodes them"
        )
    with contextlib.suppress(OSError):  # without a cache they are decoded each time
        atomic_write(kept, pixels.tobytes())
    return pixels


def _hash_pixels(pixels: Pixels) -> str:
    return hashlib.sha256(pixels.data).hexdigest()


def _find_archive(folder: Path | None) -> Path:
    """The zip file. Raises InvalidInput where it is missing."""
    root = folder or user_cache_folder() / "data"
    places = (root / ARCHIVE, root / "cifar10-jpeg" / ARCHIVE)
    for path in places:
        with contextlib.suppress(OSError):  # a folder out of reach
            if path.exists():
                return path
    raise InvalidInput(
        f"dataset 'cifar10-jpeg': there is no '{places[0]}' and no '{places[1]}', and nothing is downloaded; put the "
        "file there, or name its folder by --data-dir or $SHARPBENCH_DATA"
    )


def _decode_archive(path: Path, pixels: Pixels) -> None:
    """Decode all images of the archive into `pixels`."""
    check_plain_file(path)
    try:
        if (size := path.stat().st_size) > MAX_ARCHIVE_BYTES:
            raise InvalidInput(
                f"file '{path}' has {size:,} bytes where at most {MAX_ARCHIVE_BYTES:,} are expected; replace it by an "
                "intact copy"
            )
        with zipfile.ZipFile(path) as archive:
            members = _list_members(archive, path)
            for place, member in enumerate(members):
                image = decode_image(
                    io.BytesIO(archive.read(member)), name=f"{path}/{member.filename}", size=(EDGE, EDGE)
                )
                pixels[place] = np.asarray(image.convert("RGB"))
    except InvalidInput:
        raise
    except READ_ERRORS as error:
        raise InvalidInput(
            f"file '{path}' is not an intact zip file ({shorten(str(error))}); replace it by an intact copy"
        ) from None


def _list_members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """The images in the order of the pixels. Raises InvalidInput where one is missing or too large."""
    there = {member.filename: member for member in archive.infolist()}
    names = [
        f"{split}/{label}/{number:04d}.jpg"
        for split, count in (("train", TRAIN_PER_CLASS), ("test", TEST_PER_CLASS))
        for label in CLASSES
        for number in range(count)
    ]
    if missing := [name for name in names if name not in there]:
        raise InvalidInput(
            f"file '{path}' lacks {len(missing):,} of {len(names):,} images, such as '{missing[0]}'; replace it by an "
            "intact copy"
        )
    members = [there[name] for name in names]
    for member in members:
        size = max(member.file_size, member.compress_size)  # the first is only stated, and the second may hold more
        if size > MAX_IMAGE_BYTES:
            raise InvalidInput(
                f"image '{path}/{member.filename}' has {size:,} bytes where at most {MAX_IMAGE_BYTES:,} are expected; "
                "replace the file by an intact copy"
            )
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InvalidInput(
                f"image '{path}/{member.filename}' is compressed by method {member.compress_type} where 0 or 8 is "
                "expected; replace the file by an intact copy"
            )
    return members
