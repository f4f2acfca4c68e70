"""Model: the contract of a network that is chosen by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn


@dataclass(frozen=True)
class Model(ABC):
    """A network: a frozen value whose fields are its options, written `name[field=value]` on the command line.

    To add a model, subclass Model as a frozen dataclass in a module of `sharpbench/models/`, set the class variables,
    implement `build`, and append the class to MODELS in `sharpbench/models/__init__.py`. `tests/models/test_models.py`
    tests every class of MODELS, so a new test file holds only what is particular to the model. In a plugin, list the
    class in the plugin module's MODELS instead.

    Attributes:
        name: the name on the command line: lower-case letters, digits and hyphens.
        title: one line for `sharpbench list`.
        source: the publication.
        argument: the field that is written after a colon, as in `timm:resnet18`; None if there is none.

    >>> import math
    >>> from dataclasses import dataclass
    >>> from torch import nn
    >>> from sharpbench import Model
    >>> @dataclass(frozen=True)
    ... class Linear(Model):
    ...     name = "linear"
    ...     title = "one linear layer"
    ...     source = "an example"
    ...     bias: bool = True
    ...
    ...     def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
    ...         return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes, bias=self.bias))
    >>> Linear(bias=False).build((1, 28, 28), 10)[1].weight.shape
    torch.Size([10, 784])
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    argument: ClassVar[str | None] = None

    @abstractmethod
    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A new module that maps inputs [B, *shape] to logits [B, classes].

        The initialisation draws from torch's global generator, which the caller seeds.

        Args:
            shape: the shape of one input.
            classes: the number of logits.

        Raises:
            InvalidInput: where the network cannot take inputs of that shape.
        """

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The input shape, such as [channels, height, width], that the network is made for; None if it takes any."""
        return None

    @property
    def libraries(self) -> tuple[str, ...]:
        """The distributions, such as "timm", whose version is part of the identity of a trained network.

        The source files of a plugin are part of it in any case.
        """
        return ()

    def transform(self) -> Callable[[Any], Tensor] | None:
        """A function from a PIL image in colour to an input of `input_shape`.

        None if the network takes the inputs of the data set as they are. `run` and `measure` apply it alike.
        """
        return None

    def describe_transform(self) -> str | None:
        """What `transform` does, in words that are recorded with each network; None where it is None."""
        return None if self.transform() is None else f"transform of {type(self).__name__}"
