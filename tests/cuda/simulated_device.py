"""A device that computes on the CPU and refuses, as a GPU does, what mixes tensors of two devices.

It is torch's device for others' backends (PrivateUse1), written in Python. Importing this module registers it, for the
rest of the process: see test_simulated.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils import _pytree as pytree
from torch.utils._mode_utils import no_dispatch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "simulated"
COPIES = {"copy_", "_to_copy", "_copy_from"}
"""Operators that take a tensor from one device to the other."""
LENGTHS_ON_THE_CPU = {"_pack_padded_sequence", "_pack_padded_sequence_backward"}
"""Operators whose lengths are on the CPU, as those that they return, wherever their data are."""
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
"""Operators whose places may be on the CPU, wherever the data are."""


_setup_privateuseone_for_python_backend(NAME)
DEVICE = torch.device(NAME, 0)


class Simulated(Tensor):
    """A tensor of the device; its numbers are in `inner`, on the CPU."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> Self:
        strides, offset = inner.stride(), inner.storage_offset()
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=strides, storage_offset=offset, dtype=inner.dtype, device=DEVICE
        )
        made.inner = inner
        return made

    def __repr__(self, **options: Any) -> str:
        return f"Simulated({self.inner})"

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def numpy(self, **options: Any) -> Any:
        raise TypeError(f"a tensor on {DEVICE} has no numpy array; use Tensor.cpu() first")

    __array__ = numpy

    def __getitem__(self, key: Any) -> Tensor:
        return torch.Tensor.__getitem__(self, _as_index(key))

    @classmethod
    def __torch_dispatch__(
        cls, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = _compute(func, args, kwargs or {})
        if torch.Tag.inplace_view in func.tags:
            with no_dispatch():
                func(*args, **(kwargs or {}))
        return found


def _as_index(key: Any) -> Any:
    """Lists of places as tensors: torch would make them on the device, by operators that need memory there."""
    if isinstance(key, list):
        return torch.as_tensor(key, dtype=None if key else torch.int64)
    return tuple(map(_as_index, key)) if isinstance(key, tuple) else key


def _compute(func: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operator on the CPU, its results on the device that they would have."""
    leaves, form = pytree.tree_flatten((args, kwargs))
    held = [leaf for leaf in leaves if isinstance(leaf, Simulated)]
    device = kwargs.get("device")
    ours = bool(held) if device is None else torch.device(device).type == NAME
    if held:
        _refuse_two_devices(func, args, [leaf for leaf in leaves if type(leaf) is Tensor])
    inner, options = pytree.tree_unflatten([_on_cpu(leaf) for leaf in leaves], form)
    found = _OWN.get(func.overloadpacket.__name__, func)(*inner, **options)
    wrapped = {id(leaf.inner): leaf for leaf in held}
    given = {id(leaf) for leaf in leaves}

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor) or id(value) in given or not ours:
            return value
        if func.overloadpacket.__name__ in LENGTHS_ON_THE_CPU and not value.is_floating_point():
            return value
        return wrapped[id(value)] if id(value) in wrapped else Simulated(value)

    return pytree.tree_map(wrap, found)


def _on_cpu(leaf: Any) -> Any:
    if isinstance(leaf, Simulated):
        return leaf.inner
    return torch.device("cpu") if isinstance(leaf, torch.device) and leaf.type == NAME else leaf


def _refuse_two_devices(func: OpOverload, args: tuple[Any, ...], others: list[Tensor]) -> None:
    """Raise where a GPU would: numbers without dimensions may be on the CPU."""
    name = func.overloadpacket.__name__
    if name in COPIES | LENGTHS_ON_THE_CPU:
        return
    if name in INDEXED:
        others = [each for each in (args[0], *args[2:3]) if type(each) is Tensor]
    if any(each.dim() for each in others) or (name.endswith("_") and any(each is args[0] for each in others)):
        shapes = [tuple(each.shape) for each in others]
        raise RuntimeError(f"{func} got tensors on {DEVICE} and on cpu, the latter of shapes {shapes}")


_OWN: dict[str, Callable[..., Any]] = {"_efficientzerotensor": torch.ops.aten.zeros.default}
"""Operators in whose place others are computed on the CPU."""


def _moving(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch's function, its result made on the CPU and then moved."""

    def call(*args: Any, device: Any = None, **options: Any) -> Tensor:
        if device is None or torch.device(device).type != NAME:
            return function(*args, **options) if device is None else function(*args, device=device, **options)
        return function(*args, **options).to(device)

    return call


for _function in ("tensor", "as_tensor"):
    setattr(torch, _function, _moving(getattr(torch, _function)))


def _made(operator: OpOverload) -> Callable[..., Tensor]:
    """The operator, its result made on the CPU: torch's own code would resize an empty tensor of this device."""

    def call(*args: Any, **options: Any) -> Tensor:
        return Simulated(operator(*args, **{**options, "device": "cpu", "pin_memory": False}))

    return call


# while these live, so does what they register
_operators, _others = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
_aten = torch.ops.aten
for _operator in (
    *(_aten.arange.default, _aten.arange.start, _aten.arange.start_step),
    *(_aten.eye.default, _aten.eye.m, _aten.linspace.default, _aten.randperm.default),
):
    _operators.impl(_operator, _made(_operator), "PrivateUse1")
_others.fallback(lambda func, *args, **kwargs: _compute(func, args, kwargs), "PrivateUse1")
