"""What a measure may have written to: the tensors of a subject, its module, and what its cells share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpbench.core.batch import named_tensors
from sharpbench.core.subject import Subject

MAX_SHARED_DEPTH = 3
"""Levels of containers and dataclasses in which tensors that cells share are looked for."""
Mark = tuple[object, ...]


class SubjectState:
    """The tensors of a subject and of its module, with their versions and contents, as they are now.

    Cost: one pass over the bytes of all tensors, at construction and at each call of `changes`.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._tables = tuple(_tables(subject))
        self._marks, self._shared = self._read(), _shared_marks(subject)

    def changes(self) -> tuple[str, ...]:
        """The names of what is not as it was, such as 'params[layer0.weight]'; the state is then that of now."""
        before, shared = self._marks, self._shared
        self._marks, self._shared = self._read(), _shared_marks(self._subject)
        names = [name for name in before.keys() | self._marks.keys() if before.get(name) != self._marks.get(name)]
        if any(shared[key] != self._shared.get(key) for key in shared):
            names.append("results that measures share")
        return tuple(sorted(names))

    def _read(self) -> dict[str, Mark]:
        marks: dict[str, Mark] = _mark_fields(self._subject)
        for name, held in _tables(self._subject):
            marks[name] = (id(held),)
            marks |= {f"{name}[{key}]": _mark_tensor(value) for key, value in held.items()}
        marks |= {path: _mark_tensor(value) for path, value in named_tensors(self._subject.inputs).items()}
        marks["targets"] = _mark_tensor(self._subject.targets)
        for name, part in self._subject.module.named_modules():
            marks[f"module.{name}".rstrip(".")] = _mark_attributes(part)
            for key, value in (*part._parameters.items(), *part._buffers.items()):
                if value is not None:
                    marks[f"module.{name}.{key}".replace("..", ".")] = _mark_tensor(value)
        return marks


def _tables(subject: Subject) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    yield "params", subject.params
    yield "constants", subject.constants
    if subject.initial is not None:
        yield "initial", subject.initial


def _mark_fields(subject: Subject) -> dict[str, Mark]:
    """The fields by identity; a frozen dataclass can be written to in a roundabout way."""
    return {each.name: (id(getattr(subject, each.name)),) for each in fields(subject)}


def _mark_tensor(value: object) -> Mark:
    """Identity, version and content: some ways of writing to a tensor leave its version as it was."""
    if not isinstance(value, Tensor):
        return (id(value),)
    gradient = value.grad if value.is_leaf else None
    return (*_mark_version(value), _sum_bits(value), None if gradient is None else _mark_version(gradient)[1:])


def _mark_version(tensor: Tensor) -> Mark:
    version = 0 if tensor.is_inference() else tensor._version
    return id(tensor), version, tensor.requires_grad, tensor.dtype, tuple(tensor.shape), id(tensor._backward_hooks)


def _sum_bits(tensor: Tensor) -> int:
    """The sum of the bits of a tensor, as whole numbers of 8 bytes: as fast as memory is read."""
    if tensor.layout != torch.strided or not tensor.numel() or tensor.device.type == "meta":
        return 0
    with torch.no_grad():
        flat = tensor.detach().contiguous().reshape(-1)
        if flat.is_conj() or flat.is_neg():
            flat = flat.resolve_conj().resolve_neg()
        held = flat.view(torch.uint8)
        if held.storage_offset() % 8:
            held = held.clone()
        whole = len(held) // 8 * 8
        return int(held[:whole].view(torch.int64).sum()) + int(held[whole:].sum())


def _mark_attributes(part: nn.Module) -> Mark:
    """Attributes by identity, plain values by value, and the entries of the tables of parameters, buffers and hooks."""
    marks: list[object] = []
    for name, value in vars(part).items():
        if isinstance(value, bool | int | float | str | None):
            marks.append((name, value))
        elif isinstance(value, dict):
            marks.append((name, id(value), tuple((key, id(each)) for key, each in value.items())))
        else:
            marks.append((name, id(value)))
    return tuple(marks)


def _shared_marks(subject: Subject) -> dict[Callable[..., Any], Mark]:
    """The versions of the tensors in what the cells of a subject share; contents are not read."""
    return {key: tuple(_versions(value, 0)) for key, value in subject.shared_results()}


def _versions(value: object, depth: int) -> Iterator[Mark]:
    if isinstance(value, Tensor):
        yield _mark_version(value)
    elif depth < MAX_SHARED_DEPTH:
        for each in _children(value):
            yield from _versions(each, depth + 1)


def _children(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value
    elif is_dataclass(value) and not isinstance(value, type | Subject):
        yield from (getattr(value, each.name, None) for each in fields(value))
