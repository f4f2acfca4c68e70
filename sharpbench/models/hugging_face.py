"""Image classifiers of the Hugging Face hub, by the names of their repositories."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from sharpbench.environment import import_torchvision
from sharpbench.errors import InvalidInput, shorten
from sharpbench.models.pretrained import PretrainedModel, Wrapped

REPOSITORY = re.compile(r"[A-Za-z0-9_-][\w.-]{0,95}(/[A-Za-z0-9_-][\w.-]{0,95})?", re.ASCII)
MAX_LEVEL = 255
"""The largest value of a channel of 8 bits, which becomes 1."""
REVISION = re.compile(r"[\w./-]{1,100}", re.ASCII)


class Logits(Wrapped):
    """The logits of a network that returns an object with `logits`."""

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.network(inputs).logits
        return logits


@dataclass(frozen=True)
class HuggingFace(PretrainedModel):
    """An image classifier of the Hugging Face hub, 'hf:google/vit-base-patch16-224', as transformers loads it.

    Files come from the hub's cache, or are downloaded. Code of repositories is never executed, and weights are read
    from safetensors files only. `build` initialises at random as transformers does.

    Attributes:
        repository: OWNER/NAME on the hub.
        revision: a branch, a tag or the hash of a commit.
    """

    name: ClassVar[str] = "hf"
    title: ClassVar[str] = "an image classifier of the Hugging Face hub, hf:OWNER/NAME; needs transformers"
    source: ClassVar[str] = "Wolf et al., Transformers: State-of-the-Art Natural Language Processing, EMNLP 2020"
    argument: ClassVar[str | None] = "repository"
    repository: str
    revision: str = "main"

    def __post_init__(self) -> None:
        for what, value, form in (
            ("repository", self.repository, REPOSITORY),
            ("revision", self.revision, REVISION),
        ):
            if not form.fullmatch(value) or ".." in value:
                raise InvalidInput(f"{what} '{shorten(value)}' is not a name of the hub; write hf:OWNER/NAME")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """See Model.build. The network takes inputs of the shape that its configuration states."""
        if shape != self.input_shape:
            expected, found = ("x".join(map(str, each)) for each in (self.input_shape, shape))
            raise InvalidInput(
                f"'hf:{self.repository}' takes images of {expected}, not {found}; give a folder or data set of images, "
                "which its processor prepares"
            )
        config = copy.deepcopy(self._config())
        config.num_labels = classes
        with _refusing_errors(self.repository):
            return Logits(_transformers().AutoModelForImageClassification.from_config(config)).train()

    def pretrained(self) -> nn.Module:
        """See PretrainedModel.pretrained."""
        return Logits(_load("AutoModelForImageClassification", self.repository, self.revision, use_safetensors=True))

    @property
    def classes(self) -> int:
        """See PretrainedModel.classes."""
        return int(self._config().num_labels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """See Model.input_shape. It is that of a prepared image."""
        return _shape_of_images(self.repository, self.revision)

    def transform(self) -> Callable[[Any], Tensor]:
        """See Model.transform. It is the image processor of the repository."""
        return _Transform(self.repository, self._processor(), {})

    def normalizing_transform(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[Any], Tensor]:
        """See PretrainedModel.normalizing_transform."""
        scaled = {"do_rescale": True, "rescale_factor": 1 / MAX_LEVEL}
        normalised = {"do_normalize": True, "image_mean": list(mean), "image_std": list(std)}
        return _Transform(self.repository, self._processor(), scaled | normalised)

    def describe_transform(self, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> str:
        """See PretrainedModel.describe_transform."""
        processor = self._processor()
        used = {name: getattr(processor, f"image_{name}", None) for name in ("mean", "std")}
        if mean:
            used = {"mean": mean, "std": std}
        elif not getattr(processor, "do_normalize", None):
            used = {}
        size = "x".join(map(str, self.input_shape))
        shown = ", ".join(f"{name} {_format_channels(value)}" for name, value in used.items())
        return f"{type(processor).__name__} {size}, {shown or 'not normalised'}"

    @property
    def libraries(self) -> tuple[str, ...]:
        """See Model.libraries."""
        return ("transformers", "torchvision")

    def _config(self) -> Any:
        return _cached_config(self.repository, self.revision)

    def _processor(self) -> Any:
        return _cached_processor(self.repository, self.revision)


@dataclass(frozen=True, slots=True, eq=False)
class _Transform:
    """From a PIL image to the input that an image processor makes of it."""

    repository: str
    processor: Any
    options: dict[str, Any]

    def __call__(self, image: Any) -> Tensor:
        with _refusing_errors(self.repository):
            made: Tensor = self.processor(images=image, return_tensors="pt", **self.options)["pixel_values"][0]
        return made


def _format_channels(values: Any) -> str:
    """Numbers of the channels, or one for all, as a processor states them."""
    return " ".join(f"{value:g}" for value in values) if isinstance(values, list | tuple) else str(values)


@cache
def _cached_config(repository: str, revision: str) -> Any:
    return _load("AutoConfig", repository, revision)


@cache
def _cached_processor(repository: str, revision: str) -> Any:
    return _load("AutoImageProcessor", repository, revision)


@cache
def _shape_of_images(repository: str, revision: str) -> tuple[int, ...]:
    made = _Transform(repository, _cached_processor(repository, revision), {})(Image.new("RGB", (64, 64)))
    return tuple(made.shape)


@cache
def _transformers() -> ModuleType:
    import_torchvision()  # where it does not fit torch, transformers cannot be imported before it
    try:
        return import_module("transformers")
    except ImportError:
        raise InvalidInput("models 'hf:...' need the library transformers; pip install 'sharpbench[hf]'") from None


def _load(kind: str, repository: str, revision: str, **options: Any) -> Any:
    """What `transformers.<kind>.from_pretrained` finds on the hub or in its cache, without code of the repository."""
    if Path(repository).exists():  # transformers would read it, and results would name the hub
        raise InvalidInput(
            f"'hf:{repository}' means the hub, but the working folder has a '{repository}', which transformers would "
            "read instead; rename that, or run in another folder"
        )
    library = _transformers()
    with _refusing_errors(repository), torch.random.fork_rng(devices=[]), _silence(library):
        return getattr(library, kind).from_pretrained(repository, revision=revision, trust_remote_code=False, **options)


@contextmanager
def _refusing_errors(repository: str) -> Iterator[None]:
    """A block whose errors become one line: of the download, the disk, or what transformers cannot use."""
    try:
        yield
    except InvalidInput:
        raise
    except Exception as error:
        cause = f"{type(error).__name__}: {shorten(' '.join(str(error).split()))}"
        raise InvalidInput(
            f"'hf:{repository}' cannot be loaded ({cause}); name an image classifier with safetensors weights, and "
            "fetch it once where the hub can be reached"
        ) from error


@contextmanager
def _silence(library: ModuleType) -> Iterator[None]:
    """Suppress the progress bars and the warnings of transformers."""
    logging = library.utils.logging
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
