"""All that a call could leave behind in a user's module: attributes, modes, hooks and gradients of each part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

CONTAINERS = (dict, list, set)
"""Types of attributes whose entries are compared and put back: parameters, hooks, what a forward pass collects."""


@dataclass(frozen=True, slots=True)
class ModuleState:
    """The attributes of each part of a module by identity, the entries of its containers, and its tensors' gradients.

    A part that has several names is held once, under its first name.
    """

    parts: tuple[tuple[str, nn.Module, dict[str, Any]], ...]
    entries: tuple[tuple[str, Any, Any], ...]
    gradients: tuple[tuple[str, Tensor, Tensor | None], ...]

    @staticmethod
    def of(module: nn.Module) -> ModuleState:
        """The state of the module as it is now."""
        parts = tuple((name, part, dict(vars(part))) for name, part in module.named_modules())
        containers = [
            (_join(name, key), value)
            for name, _, attributes in parts
            for key, value in attributes.items()
            if isinstance(value, CONTAINERS)
        ]
        return ModuleState(
            parts,
            tuple((name, container, container.copy()) for name, container in containers),
            tuple((name, tensor, tensor.grad) for name, tensor in module.named_parameters()),
        )

    def changes(self) -> set[str]:
        """The names of attributes, entries and gradients that are not the same objects any more."""
        return {f"module.{name}" for name in self._changed()}

    def _changed(self) -> Iterator[str]:
        for name, part, attributes in self.parts:
            now = vars(part)
            yield from (
                _join(name, key)
                for key in attributes.keys() | now.keys()
                if key not in now or key not in attributes or now[key] is not attributes[key]
            )
        for name, container, before in self.entries:
            if not _same_entries(container, before):
                yield name
        for name, tensor, gradient in self.gradients:
            if tensor.grad is not gradient:
                yield f"{name}.grad"

    def restore(self) -> None:
        """Put every attribute, entry and gradient back."""
        for _, part, attributes in self.parts:
            vars(part).clear()
            vars(part).update(attributes)
        for _, container, before in self.entries:
            container.clear()
            container.extend(before) if isinstance(container, list) else container.update(before)
        for _, tensor, gradient in self.gradients:
            tensor.grad = gradient


def _same_entries(container: Any, before: Any) -> bool:
    """Whether the entries are the same objects, in the same order where there is one."""
    if isinstance(container, set):
        return bool(container == before)
    now, then = (
        list(each.items()) if isinstance(each, dict) else list(enumerate(each)) for each in (container, before)
    )
    return len(now) == len(then) and all(
        one[0] == other[0] and one[1] is other[1] for one, other in zip(now, then, strict=True)
    )


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
