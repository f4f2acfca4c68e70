"""Every network of timm (PyTorch Image Models, R. Wightman) by its name there."""

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
from sharpbench.errors import InvalidInput, short
from sharpbench.models.model import Model


class Enlarged(nn.Module):
    """A network behind a bilinear interpolation of its images to size x size."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, inputs: Tensor) -> Tensor:
        images = F.interpolate(inputs, size=(self.size, self.size), mode="bilinear", align_corners=False)
        logits: Tensor = self.network(images)
        return logits


@dataclass(frozen=True)
class Timm(Model):
    """A network of timm, 'timm:resnet18'; with a tag behind a dot, those pretrained weights are meant.

    `build` initialises at random as timm does it; `pretrained` takes timm's weights.
    size: images are enlarged to this edge on their way in, for networks that do not take those of the data set.
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
                f"timm {library.__version__} has no network '{short(self.architecture)}'; "
                + (f"did you mean {names}?" if near else "timm.list_models() shows all")
            )
        new = library.models.get_deprecated_models().get(self.architecture)
        if new is not None:
            raise InvalidInput(f"'timm:{self.architecture}' is an old name; use 'timm:{new}'")
        tags = _pretrained_tags(self.architecture)
        if "." in self.architecture and self.architecture not in tags:
            raise InvalidInput(
                f"timm {library.__version__} has no weights '{short(self.architecture)}'; "
                f"it has {', '.join(tags) or 'none'} of this network"
            )
        if self.size is not None and not 1 <= self.size <= 4096:
            raise InvalidInput(f"size={self.size} must be from 1 to 4096")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """See Model.build."""
        return self._built(shape, classes, pretrained=False)

    def pretrained(self) -> nn.Module:
        """The network with the weights that timm offers, as many classes and inputs as these have.

        Downloads them where timm's cache does not hold them. Raises InvalidInput where they cannot be had.
        """
        config = self._config()
        if not config.has_weights:
            raise InvalidInput(f"timm has no weights for '{self.architecture}'; use --weights random or a file")
        try:
            return self._built(config.input_size, config.num_classes, pretrained=True)
        except InvalidInput:
            raise
        except Exception as error:  # whatever the download, the disk or timm's own loading raises
            raise InvalidInput(
                f"the weights of 'timm:{self.architecture}' cannot be had ({type(error).__name__}: "
                f"{short(str(error))}); download them elsewhere and name the file by --weights"
            ) from error

    @property
    def classes(self) -> int:
        """The classes that timm's weights know."""
        return int(self._config().num_classes)

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """See Model.input_shape: what the architecture's configuration says."""
        return None if self.size else tuple(self._config().input_size)

    def transform(self) -> Callable[[Any], Tensor] | None:
        """See Model.transform: timm's own evaluation transforms for these weights."""
        if self.size:
            return None
        data = import_timm().data
        options = data.resolve_data_config(pretrained_cfg=self._config().to_dict())
        transform: Callable[[Any], Tensor] = data.create_transform(**options)
        return transform

    def _config(self) -> Any:
        return import_timm().get_pretrained_cfg(self.architecture)

    def _built(self, shape: tuple[int, ...], classes: int, *, pretrained: bool) -> nn.Module:
        edges = (self.size, self.size) if self.size else shape[1:]
        options: dict[str, Any] = {}
        if len(shape) != 3:
            raise InvalidInput(f"model 'timm:{self.architecture}' takes images, got inputs of shape {list(shape)}")
        if self._config().fixed_input_size and edges != tuple(self._config().input_size[1:]):
            options["img_size"] = edges
        if shape[0] != 3:
            options["in_chans"] = shape[0]
        with _silence_timm():
            network = _create_checked(self, shape, edges, classes, options, pretrained)
        return Enlarged(network, self.size) if self.size else network


def _create_checked(
    model: Timm,
    shape: tuple[int, ...],
    edges: tuple[int, ...],
    classes: int,
    options: dict[str, Any],
    pretrained: bool,
) -> nn.Module:
    """The network, once it has been seen to take an image of that shape and to give logits."""
    own = "x".join(map(str, model._config().input_size))
    remedy = f"its own images are {own}; try 'timm:{model.architecture}[size={own.rpartition('x')[2]}]'"
    try:
        network: nn.Module = import_timm().create_model(
            model.architecture, pretrained=pretrained, num_classes=classes, **options
        )
        with torch.no_grad():
            logits = network.eval()(torch.zeros(1, shape[0], *edges))
    except Exception as error:
        if pretrained:
            raise
        raise InvalidInput(
            f"model 'timm:{model.architecture}' does not take images of {'x'.join(map(str, (shape[0], *edges)))}: "
            f"{short(' '.join(str(error).split()))}; {remedy}"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != (1, classes):
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InvalidInput(
            f"model 'timm:{model.architecture}' gives {found} for one image, no logits [1, {classes}]; "
            "choose a classifier"
        )
    return network.train()


def _pretrained_tags(architecture: str) -> list[str]:
    base = architecture.partition(".")[0]
    names: list[str] = import_timm().list_pretrained(f"{base}.*")
    return names


@contextmanager
def _silence_timm() -> Iterator[None]:
    """Without the warnings of timm's constructors about themselves, and of a download about every attempt."""
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hub.setLevel(level)
