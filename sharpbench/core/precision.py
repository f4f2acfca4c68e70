"""The types in which a subject computes: half precision as float32, and sums over many batches in float64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sharpbench.environment import float32_products

T = TypeVar("T")

HELD_BYTES = 4
"""Floating-point numbers of fewer bytes (half, bfloat16) are held as float32, which holds each of them exactly."""


@contextmanager
def own_types() -> Iterator[None]:
    """Inside, tensors are computed in their own types and can be differentiated, whatever mode the caller is in.

    torch.autocast would compute in bfloat16 or float16, TF32 would round float32 in products, and torch.inference_mode
    forbids derivatives. torch.func takes none where hooks move or compress what a backward pass keeps.
    """
    with _without_saved_tensor_hooks(), _without_modes(), float32_products():
        yield


@contextmanager
def _without_saved_tensor_hooks() -> Iterator[None]:
    hooks: list[tuple[Any, Any]] = []
    while (top := torch._C._autograd._top_saved_tensors_default_hooks(True)) is not None:
        hooks.append(top)
        torch._C._autograd._pop_saved_tensors_default_hooks()
    try:
        yield
    finally:
        for pack, unpack in reversed(hooks):
            torch._C._autograd._push_saved_tensors_default_hooks(pack, unpack)


@contextmanager
def _without_modes() -> Iterator[None]:
    if not (torch.is_inference_mode_enabled() or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
        with torch.enable_grad():  # as leaving inference mode does
            yield
        return
    with torch.inference_mode(mode=False), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


def held_type(dtype: torch.dtype) -> torch.dtype:
    """The type in which a subject holds tensors of `dtype`: float32 for half precision, otherwise the same."""
    return torch.float32 if dtype.is_floating_point and dtype.itemsize < HELD_BYTES else dtype


def hold(tensor: Tensor) -> Tensor:
    """The tensor, detached, in the type in which a subject holds it; the same values exactly."""
    held = tensor.detach().to(held_type(tensor.dtype))
    return held.clone() if held.is_inference() else held


def hold_all(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of these tensors in the types in which a subject holds them."""
    return {name: _copied(value.detach().to(held_type(value.dtype), copy=True)) for name, value in tensors.items()}


def _copied(copy: Tensor) -> Tensor:
    """A copy to which nothing has been written: torch counts that of a tensor of inference mode as a write."""
    return copy.clone() if copy._version else copy


def half_types(tensors: Iterable[Tensor]) -> str:
    """The names of the types of half precision among these tensors, such as 'bfloat16'; '' where there are none."""
    types = {value.dtype for value in tensors}
    return ", ".join(sorted(str(each).removeprefix("torch.") for each in types if held_type(each) != each))


def sum_type(dtype: torch.dtype) -> torch.dtype:
    """The type in which many numbers of `dtype` are added up: float64 for all shorter floating-point types.

    A sum of 60,000 float32 numbers, one after the other, loses two to four of its seven digits.
    """
    return torch.float64 if dtype.is_floating_point else dtype


def sum_trees(parts: Iterable[T]) -> T:
    """The sum of trees of tensors, at least one, added up in `sum_type`; a result has the type of its parts."""
    total: list[Tensor] = []
    types: list[torch.dtype] = []
    form = None
    for part in parts:
        leaves, form = pytree.tree_flatten(part)
        if not types:
            total, types = leaves, [leaf.dtype for leaf in leaves]
        else:
            total = [whole.to(sum_type(whole.dtype)) + leaf for whole, leaf in zip(total, leaves, strict=True)]
    assert form is not None
    return cast(T, pytree.tree_unflatten([whole.to(dtype) for whole, dtype in zip(total, types, strict=True)], form))
