"""Inputs of a network: a tensor, or a tree of tensors, whose entries along the first axis are the examples.

The only place that knows the form of a tree. A tree is a tensor, a tuple of trees or a dictionary of trees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sharpbench.errors import InvalidInput, shorten

Inputs: TypeAlias = "Tensor | tuple[Inputs, ...] | dict[str, Inputs]"


def read_inputs(given: object) -> Inputs:
    """The tree of tensors that `given` is: mappings become dictionaries, and lists tuples.

    Raises InvalidInput, naming the path, for a leaf that is not a tensor, has no axis of examples, or holds another
    number of examples than the first leaf.
    """
    inputs = _read(given, "inputs")
    leaves = named_tensors(inputs)
    if not leaves:
        raise InvalidInput(f"inputs are an empty {type(given).__name__}; expected tensors, examples first")
    for path, leaf in leaves.items():
        if leaf.layout != torch.strided or leaf.is_meta or leaf.is_nested or leaf.is_quantized:
            raise InvalidInput(f"{path} are not a plain dense tensor ({_kind(leaf)}); give the numbers themselves")
        if leaf.ndim == 0 or (leaf is inputs and leaf.ndim == 1 and leaf.is_floating_point()):
            raise InvalidInput(f"{path} have shape {list(leaf.shape)}; expected [n, ...], examples first")
    first, count = next((path, len(leaf)) for path, leaf in leaves.items())
    for path, leaf in leaves.items():
        if len(leaf) != count:
            raise InvalidInput(f"{path} holds {len(leaf)} examples and {first} {count}; give one entry per example")
    if count == 0:
        raise InvalidInput("inputs hold no example; a loss is a mean over at least 1")
    return inputs


def _read(given: object, path: str) -> Inputs:
    if isinstance(given, Tensor):
        return given
    if isinstance(given, Mapping):
        return {key: _read(value, f"{path}[{shorten(repr(key))}]") for key, value in given.items()}
    if isinstance(given, tuple | list):
        parts = tuple(_read(value, f"{path}[{place}]") for place, value in enumerate(given))
        return cast(Inputs, type(given)(*parts)) if hasattr(given, "_fields") else parts
    kind, verb = type(given).__name__, "are" if path == "inputs" else "is"
    remedy = f"give torch.as_tensor({path})" if kind == "ndarray" else "leave it out, or set it in forward="
    if path == "inputs" and kind != "ndarray":
        raise InvalidInput(f"inputs are a {kind}; expected a tensor, or a tuple or dictionary of tensors")
    raise InvalidInput(f"{path} {verb} a {kind}; expected a tensor, examples first; {remedy}")


def _kind(leaf: Tensor) -> str:
    """What a tensor that is not plain is."""
    if leaf.is_meta:
        return "on the device 'meta'"
    return "nested" if leaf.is_nested else "quantised" if leaf.is_quantized else str(leaf.layout)


def named_tensors(inputs: Inputs) -> dict[str, Tensor]:
    """The tensors of a tree by their paths, such as "inputs['mask']"; of a tensor, itself as "inputs"."""
    if isinstance(inputs, Tensor):
        return {"inputs": inputs}
    return {f"inputs{pytree.keystr(path)}": leaf for path, leaf in pytree.tree_flatten_with_path(inputs)[0]}


def list_tensors(inputs: Inputs) -> list[Tensor]:
    """The tensors of a tree, in its order."""
    return [inputs] if isinstance(inputs, Tensor) else pytree.tree_leaves(inputs)


def map_tensors(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """The tree of function(tensor) for all tensors of a tree."""
    return function(inputs) if isinstance(inputs, Tensor) else cast(Inputs, pytree.tree_map(function, inputs))


def count_examples(inputs: Inputs) -> int:
    """n, the number of examples of a tree [n, ...]."""
    return len(list_tensors(inputs)[0])


def count_entries(inputs: Inputs) -> int:
    """The number of entries that one example of a tree [n, ...] has in all its tensors."""
    return sum(leaf[0].numel() for leaf in list_tensors(inputs))


def take_examples(inputs: Inputs, places: slice | Tensor) -> Inputs:
    """Some examples of a tree [n, ...], by a slice or by their places [m]."""
    if isinstance(places, slice):
        return map_tensors(lambda leaf: leaf[places], inputs)
    return map_tensors(lambda leaf: leaf[places.to(leaf.device)], inputs)


def split_examples(inputs: Inputs, size: int = 1) -> Iterator[Inputs]:
    """The examples of a tree [n, ...] in batches [size, ...]; the last may be smaller."""
    if isinstance(inputs, Tensor):
        yield from inputs.split(size)
        return
    for start in range(0, count_examples(inputs), size):
        yield take_examples(inputs, slice(start, start + size))


def unbind_examples(inputs: Inputs) -> Iterator[Inputs]:
    """The examples of a tree [n, ...], each without its first axis."""
    for place in range(count_examples(inputs)):
        yield map_tensors(lambda leaf, place=place: leaf[place], inputs)  # type: ignore[misc]


def as_batch(example: Inputs) -> Inputs:
    """One example, without an axis of examples, as a batch [1, ...]."""
    return map_tensors(lambda leaf: leaf[None], example)


def join_examples(batches: Sequence[Inputs]) -> Inputs:
    """The examples of batches of one form, in one tree."""
    return cast(Inputs, pytree.tree_map(lambda *leaves: torch.cat(leaves), *batches))


def describe_form(inputs: Inputs) -> str:
    """The shape and type of each tensor of a tree, in words."""
    if isinstance(inputs, Tensor):
        return f"inputs of shape {list(inputs.shape)} and type {inputs.dtype}"
    each = (f"{path} {list(leaf.shape)} of {leaf.dtype}" for path, leaf in named_tensors(inputs).items())
    return ", ".join(each)


def tree_form(inputs: Inputs) -> tuple[object, ...]:
    """What trees of one form share: the structure, and the shape of an example's tensors."""
    leaves, structure = pytree.tree_flatten(inputs)
    return (structure, *(tuple(leaf.shape[1:]) for leaf in leaves))
