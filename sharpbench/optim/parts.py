"""What an optimiser works on: the parameters that have a gradient, by group, device and dtype; their saved values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sharpbench.optim.rules import Vector

Group = dict[str, Any]
"""One entry of `param_groups`."""
HALF = (torch.float16, torch.bfloat16)
"""Norms of tensors of these dtypes are taken in float32: squares of small float16 numbers are 0."""


class NumberArithmetic:
    """rules.Arithmetic of single parameters, where constants are numbers or tensors of one number; foreach kernels."""

    leading = 0

    def add_scaled(self, vector: Vector, length: float | Tensor, direction: Vector) -> list[Tensor]:
        """See rules.Arithmetic."""
        if isinstance(length, Tensor):
            return list(torch._foreach_add(vector, torch._foreach_mul(direction, length)))
        return list(torch._foreach_add(vector, direction, alpha=length))

    def interpolate(self, start: Vector, end: Vector, share: float | Tensor) -> list[Tensor]:
        """See rules.Arithmetic."""
        return list(torch._foreach_lerp(start, end, float(share)))

    def shift(self, vector: Vector, constant: float | Tensor) -> list[Tensor]:
        """See rules.Arithmetic."""
        return list(torch._foreach_add(vector, constant))


NUMBERS = NumberArithmetic()


@dataclass(frozen=True)
class Part:
    """Parameters of one group, device and dtype that have a gradient, for foreach kernels.

    Attributes:
        group: their entry of `param_groups`.
        owners: the parameters.
        weights: the parameters as real tensors; complex ones are pairs of real numbers.
        gradients: their gradients, dense and real.
    """

    group: Group
    owners: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)


def collect_parts(groups: Iterable[Group]) -> list[Part]:
    """The parameters that have a gradient. Writing to `weights` writes to the parameters."""
    found: dict[tuple[int, torch.device, torch.dtype], Part] = {}
    for index, group in enumerate(groups):
        for owner in group["params"]:
            if owner.grad is not None:
                part = found.setdefault((index, owner.device, owner.dtype), Part(group))
                part.owners.append(owner)
                part.weights.append(as_real(owner.detach()))
                part.gradients.append(as_real(owner.grad.detach()))
    return list(found.values())


def as_real(value: Tensor) -> Tensor:
    """A tensor with dense, real entries: complex ones as pairs, sparse gradients filled up with 0."""
    dense = value if value.layout == torch.strided else value.to_dense()
    return torch.view_as_real(dense) if dense.is_complex() else dense


def put_gradients(owners: Sequence[Tensor], values: Vector) -> None:
    """Sets the gradients of parameters to real tensors as `as_real` gives them."""
    for owner, value in zip(owners, values, strict=True):
        gradient = torch.view_as_complex(value.contiguous()) if owner.is_complex() else value
        if owner.grad is not None and owner.grad.layout == torch.strided:
            owner.grad.copy_(gradient)  # views into buckets of DistributedDataParallel stay views
        else:
            owner.grad = gradient


def global_norm(vectors: Sequence[Vector]) -> Tensor:
    """The Euclidean norm over all tensors of all vectors, of no dimension, on the device of the first tensor."""
    norms = [norm for vector in vectors for norm in _norms(vector)]
    whole: Tensor = torch.linalg.vector_norm(_gather(norms))
    return whole


def global_product(pairs: Sequence[tuple[Vector, Vector]]) -> Tensor:
    """The inner product over all pairs of vectors, of no dimension, on the device of the first tensor."""
    products = [
        _wide(product).sum() for one, other in pairs for product in torch._foreach_mul(_widen(one), _widen(other))
    ]
    return _gather(products).sum()


def _norms(vector: Vector) -> Sequence[Tensor]:
    half = any(value.dtype in HALF for value in vector)
    return torch._foreach_norm(vector, 2, dtype=torch.float32 if half else None)


def _wide(value: Tensor) -> Tensor:
    return value.float() if value.dtype in HALF else value


def _widen(vector: Vector) -> list[Tensor]:
    return [_wide(value) for value in vector]


def _gather(numbers: Sequence[Tensor]) -> Tensor:
    """Numbers of several devices as one tensor on the first device, in the widest of their dtypes."""
    first = numbers[0].device
    widest = torch.float64 if any(number.dtype == torch.float64 for number in numbers) else torch.float32
    return torch.stack([number.to(first, widest) for number in numbers])


class Snapshot:
    """Copies of the values of parameters, and of the buffers of a network (running statistics)."""

    def __init__(self, owners: Iterable[Tensor], model: nn.Module | None = None) -> None:
        self._weights = [(owner, owner.detach().clone()) for owner in owners]
        self._buffers = [
            (module, name, buffer, buffer.detach().clone())
            for module in (model.modules() if model is not None else ())
            for name, buffer in module._buffers.items()
            if buffer is not None and not _is_expanded(buffer)
        ]

    def restore(self) -> None:
        """Writes the values back, bit by bit."""
        with torch.no_grad():
            for owner, value in self._weights:
                owner.copy_(value)
            for module, name, buffer, value in self._buffers:
                buffer.copy_(value)
                module._buffers[name] = buffer
        torch.clear_autocast_cache()  # it holds casts of the weights as they were


def _is_expanded(buffer: Tensor) -> bool:
    """Whether entries share memory, so that no pass can write to them one by one."""
    return buffer.layout == torch.strided and any(
        step == 0 and size > 1 for step, size in zip(buffer.stride(), buffer.shape, strict=True)
    )
