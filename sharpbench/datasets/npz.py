"""The user's own arrays in a NumPy file, read without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor

from sharpbench.datasets.dataset import Data, Dataset, scale_pixels
from sharpbench.datasets.guards import READ_ERRORS, check_archive_memory, read_array_type
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import user_path

MAX_CLASSES = 10**6
MAX_NAMED_CLASSES = 5
"""Classes without examples that a note names."""
MIN_TOKEN_BYTES = 4
"""Bytes of the smallest integer type whose inputs are numbers of tokens."""
ARRAY_NAMES = (
    ("train_inputs", "train_targets", "test_inputs", "test_targets"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("inputs", "targets", None, None),
    ("x", "y", None, None),
)
"""The names under which the arrays are looked for, in this order; the test split may be missing."""


@final
@dataclass(frozen=True)
class Npz(Dataset):
    """The user's arrays, 'npz:digits.npz'.

    The arrays are train_inputs, train_targets, test_inputs and test_targets; or x_train, y_train, x_test and y_test;
    or inputs and targets (x and y), which are then the training examples. Inputs [n, ...] of floats are used as they
    are, as are those of int32 and int64, which are numbers of tokens. Inputs of unsigned bytes are images [n, height,
    width], [n, channels, height, width] or [n, height, width, channels], and are scaled to -1..1. Targets [n] are whole
    numbers from 0. Arrays of objects, which only pickle could read, are left out.

    Attributes:
        path: the file.
        classes: the number of classes; None means one more than the largest target.
    """

    name: ClassVar[str] = "npz"
    title: ClassVar[str] = "arrays of your own, npz:FILE: train_inputs, train_targets, test_inputs, test_targets"
    source: ClassVar[str] = "the user"
    argument: ClassVar[str | None] = "path"
    path: str
    classes: int | None = None

    def __post_init__(self) -> None:
        if self.classes is not None and self.classes < 1:
            raise InvalidInput(f"classes={self.classes} must be at least 1")

    def load(self, folder: Path | None) -> Data:
        """See Dataset.load. A relative path starts in the working folder, not in `folder`."""
        path = user_path(self.path)
        arrays, objects = _read_arrays(path)
        names = next((layout for layout in ARRAY_NAMES if layout[0] in arrays and layout[1] in arrays), None)
        if names is None:
            left_out = f" and objects, which are not read ({shorten(', '.join(objects))})" if objects else ""
            raise InvalidInput(
                f"file '{path}' holds {shorten(', '.join(arrays)) or 'no array'}{left_out}; "
                "name its arrays train_inputs and train_targets (test_inputs, test_targets)"
            )
        train, images = _to_inputs(path, names[0], arrays[names[0]])
        train_targets = _to_targets(path, names[1], arrays[names[1]], len(train))
        if names[2] in arrays and names[3] in arrays:
            test, alike = _to_inputs(path, str(names[2]), arrays[str(names[2])])
            if alike != images or test.dtype != train.dtype:
                raise InvalidInput(
                    f"file '{path}': {names[0]} are of type {arrays[names[0]].dtype}, {names[2]} of "
                    f"{arrays[str(names[2])].dtype}; give both in one type"
                )
            test_targets = _to_targets(path, str(names[3]), arrays[str(names[3])], len(test))
        else:
            test, test_targets = train[:0], train_targets[:0]
        if test.shape[1:] != train.shape[1:]:
            raise InvalidInput(
                f"file '{path}': {names[0]} have shape {list(train.shape[1:])} each, {names[2]} "
                f"{list(test.shape[1:])}; give both the same"
            )
        largest = max(int(targets.max()) for targets in (train_targets, test_targets) if len(targets))
        if self.classes is not None and largest >= self.classes:
            raise InvalidInput(
                f"file '{path}' holds the target {largest} where classes={self.classes} allows 0 to {self.classes - 1}"
            )
        return Data(train, train_targets, test, test_targets, classes=self.classes or largest + 1, images=images)

    def notes(self, folder: Path | None) -> tuple[str, ...]:
        """See Dataset.notes: arrays that are left out, and classes without a training example."""
        path = user_path(self.path)
        arrays, objects = _read_arrays(path)
        lines = []
        if objects:
            lines.append(f"arrays of objects are not read, as pickle could execute code ({', '.join(objects)})")
        names = next((layout for layout in ARRAY_NAMES if layout[0] in arrays and layout[1] in arrays), None)
        for given, missing in () if names is None else (names[2:], names[:1:-1]):
            if given in arrays and missing not in arrays:
                lines.append(f"{given} is left out, since there is no {missing}")
        if names is not None and self.classes is None:
            lines += _describe_gaps(arrays[names[1]])
        return tuple(f"file '{path}': {line}" for line in lines)


def _describe_gaps(targets: np.ndarray) -> list[str]:
    """A line where some number from 0 to the largest is not a target, as where 1 is the first or 255 means none."""
    if targets.dtype.kind not in "iu" or targets.size == 0 or not 0 <= int(targets.max()) < MAX_CLASSES:
        return []
    counts = np.bincount(targets[targets >= 0].ravel().astype(np.int64))
    absent = [str(number) for number in np.flatnonzero(counts == 0)]
    if not absent:
        return []
    named = ", ".join(absent[:MAX_NAMED_CLASSES]) + (", ..." if len(absent) > MAX_NAMED_CLASSES else "")
    return [
        f"{len(absent)} of the classes 0 to {len(counts) - 1} have no training example ({named}); "
        "classes are numbered from 0, and each number is one"
    ]


def _read_arrays(path: Path) -> tuple[Mapping[str, np.ndarray], tuple[str, ...]]:
    """The arrays by name, and the names of those that hold objects, which are not read."""
    if path.exists() and not path.is_file():
        raise InvalidInput(f"'{path}' is not a file; name one that numpy.savez wrote")
    check_archive_memory(path)
    try:
        with path.open("rb") as content:
            file = np.load(content, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise InvalidInput(f"file '{path}' is one array and not an .npz of several; use numpy.savez")
            objects = tuple(name for name in file.files if _holds_objects(file, name))
            return {name: file[name] for name in file.files if name not in objects}, objects
    except InvalidInput:
        raise
    except FileNotFoundError:
        raise InvalidInput(f"there is no file '{path}'; write it with numpy.savez") from None
    except READ_ERRORS as error:
        raise InvalidInput(
            f"file '{path}' is not an intact .npz of plain arrays ({shorten(str(error))}); "
            "write it again with numpy.savez"
        ) from None


def _holds_objects(file: Any, name: str) -> bool:
    """Whether the header of the array says that it holds Python objects."""
    stored = f"{name}.npy"
    if stored not in file.zip.namelist():
        return False
    return read_array_type(file.zip, stored).hasobject


def _to_inputs(path: Path, name: str, array: np.ndarray) -> tuple[Tensor, bool]:
    """The inputs as tensors of float32, or int64 for tokens, and whether they are images."""
    if array.ndim < 2 or len(array) == 0:
        raise InvalidInput(
            f"file '{path}': {name} have shape {list(array.shape)}; expected [n, ...], at least 1 example"
        )
    if array.dtype == np.uint8:
        return scale_pixels(_channels_first(path, name, torch.from_numpy(array)).to(torch.float32) / 255), True
    if array.dtype.kind == "i" and array.dtype.itemsize >= MIN_TOKEN_BYTES:
        if int(array.min()) < 0:
            raise InvalidInput(f"file '{path}': {name} hold {int(array.min())}; tokens are numbered from 0")
        return torch.from_numpy(array.astype(np.int64)), False
    if array.dtype.kind != "f":
        raise InvalidInput(
            f"file '{path}': {name} are of type {array.dtype}; expected floats, uint8 for images, or int32 or int64 "
            "for numbers of tokens"
        )
    with np.errstate(over="ignore"):
        inputs = torch.from_numpy(array.astype(np.float32))
    if not bool(torch.isfinite(inputs).all()):
        bad = int((~torch.isfinite(inputs)).sum())
        raise InvalidInput(f"file '{path}': {name} hold {bad} NaN or infinite of {inputs.numel()} entries, as float32")
    return inputs, False


def _channels_first(path: Path, name: str, images: Tensor) -> Tensor:
    if images.ndim == 3:
        return images.unsqueeze(1)
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.permute(0, 3, 1, 2)
    raise InvalidInput(
        f"file '{path}': {name} of uint8 have shape {list(images.shape)}; images are [n, height, width] or have "
        "1 or 3 channels"
    )


def _to_targets(path: Path, name: str, array: np.ndarray, examples: int) -> Tensor:
    flat = array.reshape(-1) if array.shape in ((examples, 1), (examples,)) else array
    if flat.shape != (examples,) or array.dtype.kind not in "iu":
        raise InvalidInput(
            f"file '{path}': {name} have shape {list(array.shape)} and type {array.dtype}; expected {examples} whole "
            "numbers, one per input"
        )
    if len(flat) and int(flat.max()) >= MAX_CLASSES:
        raise InvalidInput(f"file '{path}': {name} hold {flat.max()}; classes go from 0 to {MAX_CLASSES - 1}")
    targets = torch.from_numpy(flat.astype(np.int64))
    if len(targets) and int(targets.min()) < 0:
        raise InvalidInput(f"file '{path}': {name} hold {int(targets.min())}; classes are numbered from 0")
    return targets
