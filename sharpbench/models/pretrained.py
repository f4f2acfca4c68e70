"""PretrainedModel: a network that a library publishes with weights, and the module around it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sharpbench.models.model import Model


class Wrapped(nn.Module):
    """A module around a published network, its attribute `network`, for which files of weights are written."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


@dataclass(frozen=True)
class PretrainedModel(Model):
    """A model for which a library publishes weights (`--weights pretrained`) and how images are prepared for them."""

    @abstractmethod
    def pretrained(self) -> nn.Module:
        """The network with the published weights, downloaded where the library's cache does not hold them.

        Raises:
            InvalidInput: where there are none, and where they cannot be loaded.
        """

    @property
    @abstractmethod
    def classes(self) -> int:
        """The number of classes of the published weights."""

    @abstractmethod
    def normalizing_transform(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[Any], Tensor]:
        """`transform` with another normalisation, for weights that were trained with it.

        Args:
            mean, std: of each channel, for pixels of 0..1.
        """

    @abstractmethod
    def describe_transform(self, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> str | None:
        """See Model.describe_transform. mean, std: those of `normalizing_transform`."""
