"""Every network of timm (PyTorch Image Models, R. Wightman), by timm's name."""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench.environment import import_timm
from sharpbench.errors import InvalidInput, shorten
from sharpbench.models.pretrained import PretrainedModel, Wrapped


class Enlarged(Wrapped):
    """A network whose images are first resized to size x size by bilinear interpolation, unless they have that size."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__(network)
        self.size = size

    def forward(self, inputs: Tensor) -> Tensor:
        images = inputs
        if inputs.shape[-2:] != (self.size, self.size):  # measures of products over layers do not follow interpolation
            images = F.interpolate(inputs, size=(self.size, self.size), mode="bilinear", align_corners=False)
        logits: Tensor = self.network(images)
        return logits


@dataclass(frozen=True)
class Timm(PretrainedModel):
    """A network of timm, 'timm:resnet18'. A tag after a dot names pretrained weights, 'timm:resnet18.a1_in1k'.

    `build` initialises at random as timm does; `pretrained` loads timm's weights.

    Attributes:
        architecture: timm's name of the network.
        size: resize images to this edge, for networks that do not take the images of the data set.
    """

    name: ClassVar[str] = "timm"
    title: ClassVar[str] = "any network of timm, timm:resnet18; over a thousand"
    source: ClassVar[str] = "Wightman, PyTorch Image Models, 2019, doi:10.5281/zenodo.4414861"
    argument: ClassVar[str | None] = "architecture"
    architecture: str
    size: int | None = None

    def __post_init__(self) -> None:
        library = import_timm()
        if not library.is_model(self.architecture):
            near = difflib.get_close_matches(self.architecture[:80], library.list_models(), n=3)
            names = " or ".join(f"'timm:{name}'" for name in near)
            raise InvalidInput(
                f"timm {library.__version__} has no network '{shorten(self.architecture)}'; "
                + (f"did you mean {names}?" if near else "timm.list_models() shows all")
            )
        new = library.models.get_deprecated_models().get(self.architecture)
        if new is not None:
            raise InvalidInput(f"'timm:{self.architecture}' is an old name; use 'timm:{new}'")
        tags = _pretrained_tags(self.architecture)
        if "." in self.architecture and self.architecture not in tags:
            raise InvalidInput(
                f"timm {library.__version__} has no weights '{shorten(self.architecture)}'; "
                f"it has {', '.join(tags) or 'none'} of this network"
            )
        if self.size is not None and not 1 <= self.size <= 4096:
            raise InvalidInput(f"size={self.size} must be from 1 to 4096")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """See Model.build."""
        return self._create(shape, classes, pretrained=False)

    def pretrained(self) -> nn.Module:
        """See PretrainedModel.pretrained."""
        config = self._config()
        if not config.has_weights:
            raise InvalidInput(f"timm has no weights for '{self.architecture}'; use --weights random or a file")
        try:
            return self._create(config.input_size, config.num_classes, pretrained=True)
        except InvalidInput:
            raise
        except Exception as error:  # from the download, the disk or timm's loading
            raise InvalidInput(
                f"the weights of 'timm:{self.architecture}' cannot be loaded ({type(error).__name__}: "
                f"{shorten(str(error))}); download them elsewhere and name the file by --weights"
            ) from error

    @property
    def classes(self) -> int:
        """See PretrainedModel.classes."""
        return int(self._config().num_classes)

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """See Model.input_shape. It is that of timm's configuration."""
        return None if self.size else tuple(self._config().input_size)

    def transform(self) -> Callable[[Any], Tensor] | None:
        """See Model.transform. It is timm's evaluation transform for these weights."""
        if self.size:
            return None
        transform: Callable[[Any], Tensor] = import_timm().data.create_transform(**self._data_config())
        return transform

    def normalizing_transform(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[Any], Tensor]:
        """See PretrainedModel.normalizing_transform. `size` must be None."""
        options = {**self._data_config(), "mean": mean, "std": std}
        transform: Callable[[Any], Tensor] = import_timm().data.create_transform(**options)
        return transform

    def describe_transform(self, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> str | None:
        """See PretrainedModel.describe_transform."""
        if self.size:
            return None
        config = {**self._data_config(), **({"mean": mean, "std": std} if mean else {})}
        shown_mean, shown_std = (" ".join(f"{value:g}" for value in config[name]) for name in ("mean", "std"))
        size = "x".join(map(str, config["input_size"]))
        crop = f"{config['crop_mode']} crop {config['crop_pct']:g}"
        return f"timm {size}, {config['interpolation']}, {crop}, mean {shown_mean}, std {shown_std}"

    @property
    def libraries(self) -> tuple[str, ...]:
        """See Model.libraries. The transforms are torchvision's."""
        return ("timm",) if self.size else ("timm", "torchvision")

    def _data_config(self) -> dict[str, Any]:
        """timm's configuration of the images that these weights are evaluated on."""
        config = import_timm().data.resolve_data_config(pretrained_cfg=self._config().to_dict())
        return dict(config)

    def _config(self) -> Any:
        return import_timm().get_pretrained_cfg(self.architecture)

    def _create(self, shape: tuple[int, ...], classes: int, *, pretrained: bool) -> nn.Module:
        edges = (self.size, self.size) if self.size else shape[1:]
        options: dict[str, Any] = {}
        if len(shape) != 3:
            raise InvalidInput(f"model 'timm:{self.architecture}' takes images, got inputs of shape {list(shape)}")
        if self._config().fixed_input_size and edges != tuple(self._config().input_size[1:]):
            options["img_size"] = edges
        if shape[0] != 3:
            options["in_chans"] = shape[0]
        with _silence_timm():
            network = self._create_checked((shape[0], *edges), classes, pretrained=pretrained, options=options)
        return Enlarged(network, self.size) if self.size else network

    def _create_checked(
        self, shape: tuple[int, ...], classes: int, *, pretrained: bool, options: dict[str, Any]
    ) -> nn.Module:
        """The network as timm makes it, after it has mapped an image of that shape to logits."""
        own = "x".join(map(str, self._config().input_size))
        remedy = f"its own images are {own}; try 'timm:{self.architecture}[size={own.rpartition('x')[2]}]'"
        try:
            network: nn.Module = import_timm().create_model(
                self.architecture, pretrained=pretrained, num_classes=classes, **options
            )
            with torch.no_grad():
                logits = network.eval()(torch.zeros(1, *shape))
        except Exception as error:
            if pretrained:
                raise
            raise InvalidInput(
                f"model 'timm:{self.architecture}' does not take images of {'x'.join(map(str, shape))}: "
                f"{shorten(' '.join(str(error).split()))}; {remedy}"
            ) from error
        if not isinstance(logits, Tensor) or logits.shape != (1, classes):
            found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise InvalidInput(
                f"model 'timm:{self.architecture}' gives {found} for one image, not logits [1, {classes}]; "
                "choose a classifier"
            )
        return network.train()


def _pretrained_tags(architecture: str) -> list[str]:
    """The names of all pretrained weights of the architecture."""
    base = architecture.partition(".")[0]
    names: list[str] = import_timm().list_pretrained(f"{base}.*")
    return names


@contextmanager
def _silence_timm() -> Iterator[None]:
    """Suppress the warnings of timm's constructors, and those of a download about each attempt."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hub.setLevel(level)
