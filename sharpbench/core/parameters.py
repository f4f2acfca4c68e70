"""The weights of a module: the parameters under measurement, and what is constant."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from sharpbench.core.precision import half_types, hold_all
from sharpbench.core.wrappers import inside_names
from sharpbench.errors import InvalidInput, truncate

Parameters: TypeAlias = str | Iterable[str]
"""Names of parameters and patterns of names: several, or one string with commas."""

MAX_LISTED_CHARS = 1000
"""Names of parameters in a message are cut off after this length."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Detached copies of a module's tensors by name: see the fields of `Subject` with these names."""

    params: dict[str, Tensor]
    constants: dict[str, Tensor]
    frozen: tuple[str, ...]
    half: str

    @property
    def all(self) -> dict[str, Tensor]:
        """Measured and constant tensors."""
        return {**self.params, **self.constants}


def read_weights(model: nn.Module, parameters: Parameters | None) -> Weights:
    """The weights of `model`, of which `parameters`, or all that require gradients, are measured.

    Raises InvalidInput where a weight is not finite, and as `choose_parameters`.
    """
    weights = hold_all(dict(model.named_parameters()))
    check_finite("weights", weights)
    trainable = [key for key, value in model.named_parameters() if value.requires_grad]
    chosen = choose_parameters(model, parameters)
    rest = {key: value for key, value in weights.items() if key not in chosen}
    return Weights(
        params={key: value for key, value in weights.items() if key in chosen},
        constants={**rest, **hold_all(dict(model.named_buffers()))},
        frozen=tuple(key for key in weights if key not in trainable),
        half=half_types(model.parameters()),
    )


def check_finite(what: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise InvalidInput where an entry of a tensor is NaN or infinite."""
    for key, value in tensors.items():
        if not value.is_floating_point() or math.isfinite(float(value.detach().sum())):  # no entry is NaN or infinite
            continue
        if not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise InvalidInput(f"{what} are not finite: {key} holds {bad} NaN or infinite of {value.numel()} entries")


def choose_parameters(model: nn.Module, chosen: Parameters | None) -> set[str]:
    """The first names of the parameters to measure: `chosen`, or all trainable ones.

    Those without entries are left out.

    chosen: names of parameters, or patterns of names such as '*lora*'; in one string separated by commas.
    Raises InvalidInput where one is unknown or complex, or none is left.
    """
    weights = dict(model.named_parameters())
    if chosen is None:
        names = [name for name, value in weights.items() if value.requires_grad]
        if not names:
            raise InvalidInput("no parameter of the network requires gradients; name those to measure in parameters=")
    else:
        words = chosen.split(",") if isinstance(chosen, str) else list(chosen)
        if not all(isinstance(word, str) for word in words):
            raise InvalidInput("parameters= holds tensors; expected the names of parameters")
        names = _match_names(model, [word.strip() for word in words])
    found = {name for name in names if weights[name].numel()}
    if not found:
        raise InvalidInput("the parameters to measure have no entries")
    for name in names:
        if weights[name].is_complex():
            raise InvalidInput(
                f"parameter '{name}' is complex; hold real pairs [..., 2] and call torch.view_as_complex in forward"
            )
    return found


def _match_names(model: nn.Module, words: Sequence[str]) -> list[str]:
    """The first names of the parameters that have one of these names, or match one of these patterns."""
    first = {id(value): name for name, value in model.named_parameters()}
    known = {name: first[id(value)] for name, value in model.named_parameters(remove_duplicate=False)}
    found: list[str] = []
    unknown: list[str] = []
    for word in words:
        found_by = ([name] if name in known else fnmatch.filter(known, name) for name in inside_names(word))
        matching = next(filter(None, found_by), [])
        found += [known[name] for name in matching]
        if not matching:
            unknown.append(word)
    if unknown or not words:
        listed = truncate(", ".join(known), MAX_LISTED_CHARS)
        raise InvalidInput(f"parameters={unknown or '[]'} are not in the network, which has {listed}")
    return found
