"""Model: the contract of a network by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import nn


@dataclass(frozen=True)
class Model(ABC):
    """A network by name: a frozen value whose fields are its options, `name[field=value]` on the command line."""

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A freshly initialised module from inputs [B, *shape] to logits [B, classes].

        Initialisation draws from torch's global generator; whoever builds a network seeds it.
        Raises InvalidInput where the network cannot take inputs of that shape.
        """
