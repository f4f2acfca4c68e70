"""How the examples of one network are prepared: as the network says, or as the user does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sharpbench.core.code_identity import hash_sources, local_modules
from sharpbench.core.fields import Scalar
from sharpbench.core.source_files import modules_beside
from sharpbench.core.user_functions import FILE_AND_FUNCTION, load_function, module_name
from sharpbench.datasets.dataset import Dataset, Examples, Subset, Transform, in_colour
from sharpbench.errors import InvalidInput, describe_error, shorten
from sharpbench.files import user_path
from sharpbench.models.model import Model
from sharpbench.models.pretrained import PretrainedModel

AS_SCALED, AS_GIVEN = "(x - 0.5) / 0.5", "as they are"
"""How inputs are prepared where neither the network nor the user says: pixels x of 0..1, and arrays of floats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How examples become inputs of a network that was trained elsewhere.

    By default images are prepared by the model's transform (the published one for networks of timm and of Hugging
    Face), or scaled to -1..1.

    Attributes:
        mean, std: of each channel, or one for all: pixels x of 0..1 become (x - mean) / std. A published
            network keeps its size and crop.
        transform: 'file.py:name', a function from a PIL image to the input; the file is executed.

    Raises InvalidInput for a mean without a std, for both and a transform, and for numbers out of range.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    transform: str | None = None

    def __post_init__(self) -> None:
        if bool(self.mean) != bool(self.std):
            missing, given = ("std", "mean") if self.mean else ("mean", "std")
            raise InvalidInput(f"{given} is given without {missing}; give both, as the network was trained with them")
        if self.mean and self.transform:
            raise InvalidInput("mean and std are given next to a transform; put the normalisation into the transform")
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)) or any(value <= 0 for value in self.std):
            raise InvalidInput(f"std={_join(self.std)} must be above 0, and mean={_join(self.mean)} finite")
        if len(self.std) not in (1, len(self.mean)) and len(self.mean) != 1:
            raise InvalidInput(f"mean has {len(self.mean)} values, std {len(self.std)}; give one for each channel")
        if self.transform is not None and not FILE_AND_FUNCTION.fullmatch(self.transform):
            raise InvalidInput(f"transform '{shorten(self.transform)}' is not written FILE.py:NAME")

    def examples(self, model: Model, dataset: Dataset, folder: Path | None, subset: Subset) -> Examples:
        """The examples that `subset` selects, as the network takes them. Raises InvalidInput as Dataset.examples."""
        if self.transform is not None:
            return dataset.examples(folder, subset, self._load_transform())
        transform = None if dataset.prepared else model.transform()
        if transform is not None and self.mean and isinstance(model, PretrainedModel):
            transform = model.normalizing_transform(self._per_channel(self.mean, 3), self._per_channel(self.std, 3))
        elif transform is not None and self.mean:
            raise InvalidInput(f"model '{model.name}' prepares images by its own transform; leave out mean and std")
        if transform is not None:
            return dataset.examples(folder, subset, in_colour(transform))
        examples = dataset.examples(folder, subset)
        return replace(examples, inputs=self._normalize(examples)) if self.mean else examples

    def describe(self, model: Model, *, images: bool) -> str:
        """How inputs are prepared, in words. images: whether the model takes images as the data set scales them."""
        if self.transform is not None:
            return f"transform {self.transform}"
        own = model.describe_transform()
        if own is not None and isinstance(model, PretrainedModel):
            mean, std = ((self._per_channel(each, 3) if each else ()) for each in (self.mean, self.std))
            return str(model.describe_transform(mean, std))
        if own is not None:
            return own
        if self.mean:
            return f"mean {_join(self.mean)}, std {_join(self.std)}"
        return AS_SCALED if images else AS_GIVEN

    def key_fields(self) -> dict[str, Scalar]:
        """What a record's key holds of it: nothing for the default, so that records of earlier versions are found."""
        if self.transform is not None:
            modules = local_modules(module_name(self.transform.rpartition(":")[0]))
            return {"transform": self.transform.rpartition(":")[2], "transform_code_sha256": hash_sources(modules)}
        return {"mean": _join(self.mean), "std": _join(self.std)} if self.mean else {}

    def _normalize(self, examples: Examples) -> Tensor:
        """(x - mean) / std of pixels x of 0..1."""
        inputs = examples.inputs
        if not examples.images or not isinstance(inputs, Tensor):
            raise InvalidInput("mean and std are for images; these inputs are arrays that are used as they are")
        mean, std = (
            torch.tensor(self._per_channel(each, inputs.shape[1]), dtype=inputs.dtype).view(1, -1, 1, 1)
            for each in (self.mean, self.std)
        )
        return ((inputs + 1) / 2 - mean) / std

    def _per_channel(self, values: tuple[float, ...], channels: int) -> tuple[float, ...]:
        if len(values) not in (1, channels):
            raise InvalidInput(
                f"mean={_join(self.mean)} and std={_join(self.std)}: images have {channels} channels; "
                "give one value, or one for each"
            )
        return values * channels if len(values) == 1 else values

    def _load_transform(self) -> Transform:
        """The user's function; its errors are one line, and what it returns is a tensor of one shape."""
        assert self.transform is not None
        path, _, name = self.transform.rpartition(":")
        return _CheckedTransform(self.transform, path, load_function(path, name))


class _CheckedTransform:
    """A user's transform. Raises InvalidInput where it raises, or returns anything but tensors of one shape."""

    def __init__(self, title: str, path: str, function: Callable[..., Any]) -> None:
        self._title, self._path, self._function = title, path, function
        self._shape: torch.Size | None = None

    def __call__(self, image: Any) -> Tensor:
        try:
            with modules_beside(user_path(self._path)):
                made = self._function(image)
        except Exception as error:  # the user's code may raise anything
            shown = f"{image.mode}, {image.size[0]}x{image.size[1]}"
            raise InvalidInput(
                f"transform '{self._title}' raises on an image ({shown}): {describe_error(error)}"
            ) from error
        if not isinstance(made, Tensor) or not made.is_floating_point():
            raise InvalidInput(
                f"transform '{self._title}' returns {shorten(repr(type(made).__name__))}, not a tensor of floats; "
                "end it with torchvision's ToTensor()"
            )
        self._shape = self._shape or made.shape
        if made.shape != self._shape:
            raise InvalidInput(
                f"transform '{self._title}' returns {list(made.shape)} for one image and {list(self._shape)} for "
                "another; let it resize and crop to one size"
            )
        return made.detach()


def _join(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
