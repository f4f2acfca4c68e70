"""The user's own images, in one folder per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sharpbench.core.fields import check_fields
from sharpbench.core.spec import format_spec
from sharpbench.datasets.class_map import read_class_map
from sharpbench.datasets.dataset import Data, Dataset, Examples, Split, Subset, Transform, gather_examples, scale_pixels
from sharpbench.datasets.decode import decode_image
from sharpbench.datasets.guards import check_image_memory, check_links
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import natural_key, user_path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
TRAIN_FOLDERS = ("train", "training")
"""Possible names of the folder with the training examples, in lower case."""
TEST_FOLDERS = ("test", "testing", "val", "valid", "validation")
"""Possible names of the folder with the test examples, in lower case; the first that is there is taken."""
OTHER_FOLDERS = ("__MACOSX",)
"""Folders that archives leave and that are not classes, as hidden ones are not."""
MAX_IMAGE_EDGE = 4096
"""The largest edge, in pixels, to which images are resized."""
MAX_NAMED_CLASSES = 5
"""Classes that a line names."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The image files of one split, class by class, the class of each, and the names of the classes."""

    paths: tuple[Path, ...]
    targets: Tensor
    classes: tuple[str, ...]


@final
@dataclass(frozen=True)
class ImageFolder(Dataset):
    """The user's images, 'imagefolder:photos': photos/train/CLASS/*.png and photos/test (or val)/CLASS/*.png.

    Without these folders, photos/CLASS/*.png are the training examples. A network of timm receives the images through
    its own transform. For other networks all images must have the same size, or `size` gives them one; they are scaled
    to -1..1, and are in colour if any of them is.

    Attributes:
        path: the folder.
        order: how classes are numbered: by code point of their names, as torchvision does ('name': 0, 1, 10, 2); or
            with the numbers in them as numbers and without regard to case, as timm does ('natural': 0, 1, 2, 10).
        class_map: a file that numbers the classes instead (see `read_class_map`); it may hold further classes.
        size: crop the central square of each image and resize it to this edge, for networks without a transform.
    """

    name: ClassVar[str] = "imagefolder"
    title: ClassVar[str] = "images of your own, imagefolder:FOLDER: train/CLASS/*.png and test/CLASS/*.png"
    source: ClassVar[str] = "the user"
    argument: ClassVar[str | None] = "path"
    path: str
    order: Literal["name", "natural"] = "name"
    class_map: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        check_fields(self, kind="dataset")
        if self.size is not None and not 1 <= self.size <= MAX_IMAGE_EDGE:
            raise InvalidInput(f"size={self.size} must be from 1 to {MAX_IMAGE_EDGE}")
        if self.class_map is not None and self.order != "name":
            raise InvalidInput(f"order={self.order} has no effect next to class_map, which numbers the classes")

    def load(self, folder: Path | None) -> Data:
        """See Dataset.load. A relative path starts in the working folder, not in `folder`."""
        train, test = self.pictures("train"), self.pictures("test")
        images = _stack_images([*train.paths, *test.paths], self.size)
        count = len(train.paths)
        return Data(
            train_inputs=images[:count],
            train_targets=train.targets,
            test_inputs=images[count:],
            test_targets=test.targets,
            classes=len(train.classes),
            images=True,
        )

    def holds_images(self, folder: Path | None) -> bool:
        """See Dataset.holds_images."""
        return True

    def load_transformed(self, folder: Path | None, transform: Transform) -> Data:
        """See Dataset.load_transformed. The images may have different sizes."""
        self._check_size_unused()
        train, test = self.pictures("train"), self.pictures("test")
        return Data(
            train_inputs=_transform_images(train.paths, transform),
            train_targets=train.targets,
            test_inputs=_transform_images(test.paths, transform),
            test_targets=test.targets,
            classes=len(train.classes),
        )

    def examples(self, folder: Path | None, subset: Subset, transform: Transform | None = None) -> Examples:
        """See Dataset.examples. Only the selected images are opened; a transform receives them in colour."""
        pictures = self.pictures(subset.split)
        chosen = subset.indices(len(pictures.paths))
        paths = [pictures.paths[index] for index in chosen.tolist()]
        if transform is None:
            inputs = _stack_images(paths, self.size)
        else:
            self._check_size_unused()
            inputs = _transform_images(paths, transform)
        available, images = len(pictures.paths), transform is None
        return Examples(inputs, pictures.targets[chosen], len(pictures.classes), available, images)

    def notes(self, folder: Path | None) -> tuple[str, ...]:
        """See Dataset.notes: the classes in their order, and where timm and torchvision number them differently."""
        train, test = self.pictures("train"), self.pictures("test")
        spec = format_spec(self)
        counts = f"{len(train.paths):,} training and {len(test.paths):,} test images"
        lines = [f"{spec}: {len(train.classes)} classes ({_name_some(train.classes)}), {counts}"]
        natural = _sort_names(train.classes, "natural")
        if self.class_map is None and self.order == "name" and natural != train.classes:
            lines.append(
                f"warning: classes are numbered as torchvision does; timm's reader numbers them {_name_some(natural)}: "
                f"for weights that were trained with it, write '{spec.removesuffix(']')}"
                f"{',' if spec.endswith(']') else '['}order=natural]'"
            )
        return tuple(lines)

    def pictures(self, split: Split) -> ImageFiles:
        """The files of a split. The classes are those of the training examples, or of the class map."""
        root = user_path(self.path)
        if not root.is_dir():
            raise InvalidInput(f"there is no folder '{root}'; name one that holds a folder of images for each class")
        try:
            check_links(root, IMAGE_SUFFIXES)
            return self._list_split(root, split)
        except OSError as error:
            raise InvalidInput(f"folder '{error.filename or root}' cannot be read ({error.strerror})") from None

    def _list_split(self, root: Path, split: Split) -> ImageFiles:
        train = _find_folder(root, TRAIN_FOLDERS) or root
        names = _class_folders(train)
        if not names:
            raise InvalidInput(
                f"folder '{train}' does not hold a folder; put the images of each class into a folder named after it"
            )
        mapped = None if self.class_map is None else read_class_map(self.class_map, names)
        classes = _sort_names(names, self.order) if mapped is None else mapped
        if split == "train":
            return _list_classes(train, classes)
        test = _find_folder(root, TEST_FOLDERS) if train != root else None
        if test is None:
            return ImageFiles((), torch.empty(0, dtype=torch.int64), classes)
        found = _class_folders(test)
        unknown = [name for name in found if name not in classes]
        if unknown or not found:
            fault = f"the class '{unknown[0]}', which the training examples do not have" if unknown else "no class"
            raise InvalidInput(f"folder '{test}' has {fault}; give it the folders of the training examples")
        return _list_classes(test, classes)

    def _check_size_unused(self) -> None:
        if self.size is not None:
            raise InvalidInput(
                f"size={self.size} of '{self.name}' is for networks without a transform; this one prepares images by "
                "its own, so leave it out"
            )


def _find_folder(root: Path, names: Sequence[str]) -> Path | None:
    """The folder in `root` with the first of the names, in any case."""
    folders = {each.name.lower(): each for each in sorted(root.iterdir(), reverse=True) if each.is_dir()}
    return next((folders[name] for name in names if name in folders), None)


def _class_folders(place: Path) -> tuple[str, ...]:
    folders = (each.name for each in place.iterdir() if each.is_dir())
    return tuple(sorted(name for name in folders if not name.startswith(".") and name not in OTHER_FOLDERS))


def _sort_names(names: Sequence[str], order: Literal["name", "natural"]) -> tuple[str, ...]:
    return tuple(sorted(names) if order == "name" else sorted(names, key=lambda name: natural_key(name.lower())))


def _name_some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED_CLASSES} more" if len(names) > MAX_NAMED_CLASSES else ""
    return ", ".join(shorten(name) for name in names[:MAX_NAMED_CLASSES]) + more


def _list_classes(place: Path, classes: Sequence[str]) -> ImageFiles:
    files = {name: _find_images(place / name) for name in classes}
    for name in classes:
        if not (place / name).is_dir():
            continue
        if not files[name]:
            raise InvalidInput(
                f"folder '{place / name}' does not hold an image ({', '.join(sorted(IMAGE_SUFFIXES))}); remove it"
            )
        if all(path.parent != place / name for path in files[name]):
            raise InvalidInput(
                f"folder '{place / name}' holds only folders, so it is not a class; name the folder whose folders hold "
                "the images, or one with the folders train and test"
            )
    targets = [number for number, name in enumerate(classes) for _ in files[name]]
    paths = [path for name in classes for path in files[name]]
    return ImageFiles(tuple(paths), torch.tensor(targets, dtype=torch.int64), tuple(classes))


def _find_images(place: Path) -> list[Path]:
    """The image files at any depth in the order of their names, hidden ones left out.

    Raises OSError for a folder that cannot be read.
    """
    if not place.is_dir():
        return []
    found: list[Path] = []
    for path in sorted(each for each in place.iterdir() if not each.name.startswith(".")):
        found += _find_images(path) if path.is_dir() else [path] if path.suffix.lower() in IMAGE_SUFFIXES else []
    return found


def _transform_images(paths: Sequence[Path], transform: Transform) -> Tensor:
    inputs = (transform(decode_image(path).convert("RGB")).unsqueeze(0) for path in paths)
    return gather_examples(inputs, len(paths))


def _stack_images(paths: Sequence[Path], size: int | None) -> Tensor:
    """Images [n, 1 or 3, height, width], scaled to -1..1. size: of the square that each is made."""
    check_image_memory(paths)
    images = [decode_image(path) for path in paths]
    if size is not None:
        images = [ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR) for image in images]
    for path, image in zip(paths, images, strict=True):
        if image.size != images[0].size:
            raise InvalidInput(
                f"image '{path}' is {image.size[0]}x{image.size[1]}, '{paths[0]}' {images[0].size[0]}x"
                f"{images[0].size[1]}; give all one size, write 'imagefolder:FOLDER[size={min(image.size)}]', or use a "
                "network of timm without [size=], which crops its own"
            )
    mode = "RGB" if any(image.mode == "RGB" for image in images) else "L"
    arrays = [np.atleast_3d(np.asarray(image.convert(mode))) for image in images]
    return scale_pixels(torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).to(torch.float32) / 255)
