"""The user's own images, in one folder per class."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sharpbench.datasets.dataset import Data, Dataset, Examples, Split, Subset, Transform, gather_examples, scale_pixels
from sharpbench.errors import InvalidInput
from sharpbench.files import user_path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
TEST_FOLDERS = ("test", "val", "valid")
"""Possible names of the folder with the test examples, next to the folder train."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The image files of one split in the order of their names, the class of each, and the names of the classes."""

    paths: tuple[Path, ...]
    targets: Tensor
    classes: tuple[str, ...]


@final
@dataclass(frozen=True)
class ImageFolder(Dataset):
    """The user's images, 'imagefolder:photos': photos/train/CLASS/*.png and photos/test (or val)/CLASS/*.png.

    Without these folders, photos/CLASS/*.png are the training examples. Classes are numbered in the order of their
    names. A network of timm receives the images through its own transform. For other networks all images must have
    the same size; they are scaled to -1..1, and are in colour if any of them is.
    """

    name: ClassVar[str] = "imagefolder"
    title: ClassVar[str] = "images of your own, imagefolder:FOLDER: train/CLASS/*.png and test/CLASS/*.png"
    source: ClassVar[str] = "the user"
    argument: ClassVar[str | None] = "path"
    path: str

    def load(self, folder: Path | None) -> Data:
        """See Dataset.load. A relative path starts in the working folder, not in `folder`."""
        train, test = self.pictures("train"), self.pictures("test")
        images = _stack_images([*train.paths, *test.paths])
        count = len(train.paths)
        return Data(
            train_inputs=images[:count],
            train_targets=train.targets,
            test_inputs=images[count:],
            test_targets=test.targets,
            classes=len(train.classes),
            images=True,
        )

    def examples(self, folder: Path | None, subset: Subset, transform: Transform | None = None) -> Examples:
        """See Dataset.examples. Only the selected images are opened."""
        pictures = self.pictures(subset.split)
        chosen = subset.indices(len(pictures.paths))
        paths = [pictures.paths[index] for index in chosen.tolist()]
        inputs = _stack_images(paths) if transform is None else _transform_images(paths, transform)
        return Examples(inputs, pictures.targets[chosen], len(pictures.classes), len(pictures.paths))

    def pictures(self, split: Split) -> ImageFiles:
        """The files of a split. The classes are those of the training examples."""
        root = user_path(self.path)
        if not root.is_dir():
            raise InvalidInput(f"there is no folder '{root}'; name one that holds a folder of images for each class")
        try:
            return _list_split(root, split)
        except OSError as error:
            raise InvalidInput(f"folder '{error.filename or root}' cannot be read ({error.strerror})") from None


def _list_split(root: Path, split: Split) -> ImageFiles:
    train = root / "train" if (root / "train").is_dir() else root
    classes = _class_folders(train)
    if not classes:
        raise InvalidInput(
            f"folder '{train}' does not hold a folder; put the images of each class into a folder named after it"
        )
    if split == "train":
        return _list_classes(train, classes)
    found = [root / part for part in TEST_FOLDERS if (root / part).is_dir()] if train != root else []
    if not found:
        return ImageFiles((), torch.empty(0, dtype=torch.int64), classes)
    unknown = [name for name in _class_folders(found[0]) if name not in classes]
    if unknown:
        raise InvalidInput(f"folder '{found[0]}' has the class '{unknown[0]}', which the training examples do not have")
    return _list_classes(found[0], classes)


def _class_folders(place: Path) -> tuple[str, ...]:
    return tuple(sorted(each.name for each in place.iterdir() if each.is_dir() and not each.name.startswith(".")))


def _list_classes(place: Path, classes: Sequence[str]) -> ImageFiles:
    files = {name: _find_images(place / name) for name in classes}
    empty = [name for name in classes if not files[name] and (place / name).is_dir()]
    if empty:
        raise InvalidInput(
            f"folder '{place / empty[0]}' does not hold an image ({', '.join(sorted(IMAGE_SUFFIXES))}); remove it"
        )
    targets = [number for number, name in enumerate(classes) for _ in files[name]]
    paths = [path for name in classes for path in files[name]]
    return ImageFiles(tuple(paths), torch.tensor(targets, dtype=torch.int64), tuple(classes))


def _find_images(place: Path) -> list[Path]:
    """The image files at any depth in the order of their names. Raises OSError for a folder that cannot be read."""
    if not place.is_dir():
        return []
    found: list[Path] = []
    for path in sorted(place.iterdir()):
        found += _find_images(path) if path.is_dir() else [path] if path.suffix.lower() in IMAGE_SUFFIXES else []
    return found


def _open_image(path: Path) -> Image.Image:
    """The decoded image, in grey or colour. Raises InvalidInput where it cannot be decoded to 8 bits."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if image.mode[0] in "IF":
                raise InvalidInput(
                    f"image '{path}' has more than 8 bits per channel ({image.mode}); convert it to 8 bits"
                )
            return image.convert("L" if image.mode in ("1", "L") else "RGB")
    except InvalidInput:
        raise
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        cause = str(error).replace(f"'{path}'", "it").replace(str(path), "it")
        raise InvalidInput(f"image '{path}' cannot be decoded ({cause}); replace or delete it") from None


def _transform_images(paths: Sequence[Path], transform: Transform) -> Tensor:
    inputs = (transform(_open_image(path).convert("RGB")).unsqueeze(0) for path in paths)
    return gather_examples(inputs, len(paths))


def _stack_images(paths: Sequence[Path]) -> Tensor:
    """Images [n, 1 or 3, height, width], scaled to -1..1."""
    images = [_open_image(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.size != images[0].size:
            raise InvalidInput(
                f"image '{path}' is {image.size[0]}x{image.size[1]}, '{paths[0]}' {images[0].size[0]}x"
                f"{images[0].size[1]}; give all one size, or use a network of timm, which crops its own"
            )
    mode = "RGB" if any(image.mode == "RGB" for image in images) else "L"
    arrays = [np.atleast_3d(np.asarray(image.convert(mode))) for image in images]
    return scale_pixels(torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).to(torch.float32) / 255)
