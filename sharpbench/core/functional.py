"""Calls of a module as a pure function of its tensors, which leave the module as it was."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
import torch.utils.checkpoint as checkpointing
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize

from sharpbench.core.batch import Inputs
from sharpbench.core.definitions import differentiable_operators

_LOCK = threading.RLock()
"""One call at a time in a process: two calls would restore each other's attributes."""

IMMUTABLE = frozenset(
    (
        *(str, bytes, int, float, complex, bool, type(None), type),
        *(FunctionType, BuiltinFunctionType, ModuleType, torch.dtype, torch.device, torch.Size),
    )
)
"""Types of attributes that a forward pass cannot write to."""
TENSOR_TABLES = ("_parameters", "_buffers")
HOOK_TABLES = frozenset(key for key, value in vars(nn.Module()).items() if isinstance(value, dict) and "hook" in key)
"""Dictionaries that every module has, and most modules leave empty."""
ATTENTION_CACHE = "attention_bias_cache"
"""timm's name, and of networks made after it, for what an attention in eval mode keeps from one call to the next."""
MAX_COPIED_ENTRIES = 2**20
"""Larger plain tensors are data sets and tables: they are passed on, not copied in every call."""
MAX_COPIED_ITEMS = 10_000
"""The same for lists and dictionaries."""
MAX_OBJECT_DEPTH = 3
"""Plain objects that a module holds, those that they hold, and those that these hold."""


Forward = Callable[[nn.Module, Any], Any]
"""(module, inputs) -> outputs: how a module is called with a batch of inputs."""


def call_module(
    module: nn.Module, tensors: Mapping[str, Tensor], inputs: Inputs, forward: Forward | None = None
) -> Any:
    """The outputs of `inputs` in eval mode, with `tensors` in place of the parameters and buffers of those names.

    The module is left as it was, and the result can be differentiated twice, forward and backward.
    forward: how the module is called; by default `call_by_form`.
    """
    with differentiable_backends(), private_attributes(module, tensors), differentiable_operators():
        return (forward or call_by_form)(module, inputs)


def call_by_form(module: nn.Module, inputs: Inputs) -> Any:
    """module(inputs) of a tensor, module(*inputs) of a tuple, module(**inputs) of a dictionary."""
    if isinstance(inputs, tuple):
        return module(*inputs)
    return module(**inputs) if isinstance(inputs, dict) else module(inputs)


@contextmanager
def private_attributes(module: nn.Module, tensors: Mapping[str, Tensor], *, evaluate: bool = True) -> Iterator[None]:
    """Inside, each part of `module` has a copy of its attributes, and `tensors` in place of its own tensors.

    Afterwards each part has the attribute dictionary that it had before, and nothing was written to that. So all
    that a forward pass stores is dropped: attention maps, caches, derived weights, running statistics.

    A part counts once, whatever its names. A tied tensor has the same replacement under each of its names.
    evaluate: put all parts into eval mode; otherwise they keep their modes.
    """
    with _LOCK:
        call = _Attributes(tensors, evaluate)
        call.add_module(module, "")
        private = [call.private_copy(part) for part in call.parts]  # finds further parts on the way
        own = [part.__dict__ for part in call.parts]
        try:
            for part, attributes in zip(call.parts, private, strict=True):
                object.__setattr__(part, "__dict__", attributes)
            yield
        finally:
            for part, attributes in zip(call.parts, own, strict=True):
                object.__setattr__(part, "__dict__", attributes)


@contextmanager
def swapped_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, `module` has `tensors` in place of its parameters and buffers; all else that it writes remains."""
    with _LOCK:
        call = _Attributes(tensors, evaluate=False)
        call.add_module(module, "")
        own = [(part, table, part.__dict__[table]) for part in call.parts for table in TENSOR_TABLES]
        try:
            for part, table, held in own:
                part.__dict__[table] = call.replaced(held)
            yield
        finally:
            for part, table, held in own:
                part.__dict__[table] = held


@contextmanager
def differentiable_backends() -> Iterator[None]:
    """Inside, torch computes by the implementations that can be differentiated twice and forward.

    Attention by its definition, transformer layers unfused, what torch.compile has wrapped as it was written, without
    autocast, and checkpointed blocks as plain calls: recomputing one in a backward pass would see other weights. So
    would weights of torch.nn.utils.parametrize that were cached before. What is kept for a backward pass is neither
    moved nor compressed.
    """
    with _LOCK:
        fused = torch.backends.mha.get_fastpath_enabled()
        names = ("_checkpoint_without_reentrant_generator", "CheckpointFunction")
        own = {name: getattr(checkpointing, name) for name in names}
        casting = torch.autocast.__enter__, torch.autocast.__exit__
        packing = saved_tensors_hooks.__enter__, saved_tensors_hooks.__exit__
        cached = parametrize._cache_enabled, parametrize._cache
        try:
            parametrize._cache_enabled, parametrize._cache = 0, {}
            torch.backends.mha.set_fastpath_enabled(False)
            for context in (torch.autocast, saved_tensors_hooks):
                context.__enter__, context.__exit__ = _enter_nothing, _leave_nothing  # type: ignore[method-assign]
            checkpointing._checkpoint_without_reentrant_generator = lambda *args, **kwargs: iter((None,))
            checkpointing.CheckpointFunction = _PlainCheckpoint  # type: ignore[assignment,misc]
            with sdpa_kernel(SDPBackend.MATH), torch.compiler.set_stance("force_eager"):
                yield
        finally:
            parametrize._cache_enabled, parametrize._cache = cached
            torch.backends.mha.set_fastpath_enabled(fused)
            torch.autocast.__enter__, torch.autocast.__exit__ = casting  # type: ignore[method-assign]
            saved_tensors_hooks.__enter__, saved_tensors_hooks.__exit__ = packing  # type: ignore[method-assign]
            for name, value in own.items():
                setattr(checkpointing, name, value)


def _enter_nothing(context: object) -> object:
    """Stands in for the start of an autocast, as half precision is computed as float32 everywhere, and of hooks that
    move or compress what a backward pass keeps, which torch.func does not allow."""
    return context


def _leave_nothing(context: object, *error: object) -> None:
    """Stands in for their end."""


class _PlainCheckpoint:
    """Stands in for torch's reentrant checkpoint."""

    @staticmethod
    def apply(run: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        return run(*args)


class _Attributes:
    """The parts of a module, once each, and copies of their attributes.

    Where the replacements have another floating-point type than the module, its other tensors are converted as well.
    parts: submodules, and the plain objects and unregistered modules that these hold in attributes.
    """

    def __init__(self, tensors: Mapping[str, Tensor], evaluate: bool) -> None:
        self.parts: list[Any] = []
        self._tensors, self._evaluate = tensors, evaluate
        self._replacements: dict[int, Tensor] = {}
        self._copies: dict[int, Any] = {}
        self._types: dict[torch.dtype, torch.dtype] = {}
        self._depths: dict[int, int] = {}

    def add_module(self, module: nn.Module, prefix: str | None) -> None:
        """Add a module and its submodules. prefix: of its tensors' names; None where it is not registered."""
        if id(module) in self._depths:
            return
        self._depths[id(module)] = 0
        self.parts.append(module)
        attributes = module.__dict__
        if prefix is not None:
            for table in TENSOR_TABLES:
                for key, value in attributes[table].items():
                    if value is not None and prefix + key in self._tensors:
                        given = self._replacements.setdefault(id(value), self._tensors[prefix + key])
                        if value.dtype != given.dtype and value.is_floating_point() and table == "_parameters":
                            self._types[value.dtype] = given.dtype
        for key, child in attributes["_modules"].items():
            if child is not None:
                self.add_module(child, None if prefix is None else f"{prefix}{key}.")

    def replaced(self, table: Mapping[str, Tensor | None]) -> dict[str, Tensor | None]:
        """A table of parameters or buffers with the replacements of its tensors."""
        return {key: None if value is None else self._replaced(value) for key, value in table.items()}

    def _replaced(self, value: Tensor) -> Tensor:
        found = self._replacements.get(id(value))
        return self._converted(value) if found is None else found

    def _converted(self, value: Tensor) -> Tensor:
        """A tensor that is not replaced, as a constant, in the type that the replacements of its type have."""
        given = self._types.get(value.dtype)
        if given is not None:
            return (value if value.grad_fn is not None else value.detach()).to(given)
        if value.grad_fn is not None:  # computed from parameters before: seen in autograd's graph where it is used
            return value
        return value.detach() if self._tensors and value.requires_grad else value

    def private_copy(self, part: Any) -> dict[str, Any]:
        """What stands in for the attributes of a part."""
        own, depth = part.__dict__, self._depths[id(part)]
        if not isinstance(part, nn.Module):
            return {key: self._copied(value, depth) for key, value in own.items()}
        tables = (*TENSOR_TABLES, "_modules")
        copies = {
            key: None
            if key in tables
            else value
            if type(value) in IMMUTABLE
            else value.copy()
            if key in HOOK_TABLES and not value
            else self._copied(value, depth)
            for key, value in own.items()
        }
        buffers = {key: self._copied(value, depth) for key, value in own["_buffers"].items()}
        copies.update(_parameters=self.replaced(own["_parameters"]), _buffers=buffers, _modules=own["_modules"].copy())
        if self._evaluate:
            copies["training"] = False
        if isinstance(copies.get(ATTENTION_CACHE), dict):
            copies[ATTENTION_CACHE] = {}
        return copies

    def _copied(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in IMMUTABLE:
            return value
        if id(value) in self._copies:
            return self._copies[id(value)]
        if kind in CONTAINERS:
            return self._copied_container(kind, value, depth)
        if isinstance(value, Tensor):
            copy = self._replacements.get(id(value))
            if copy is None:
                copy = self._converted(value)
                if copy is value and not isinstance(value, nn.Parameter) and value.numel() <= MAX_COPIED_ENTRIES:
                    copy = (value if value.grad_fn is not None else value.detach()).clone()
                self._copies[id(value)] = copy
            return copy
        if kind is MethodType:
            self._add_object(value.__self__, depth)
        else:
            self._add_object(value, depth)
        return value

    def _copied_container(self, kind: type, value: Any, depth: int) -> Any:
        if len(value) > MAX_COPIED_ITEMS:
            return value
        if kind is tuple:
            return tuple([self._copied(each, depth) for each in value])
        copy = self._copies[id(value)] = value.copy()  # known before its items are: it may hold itself
        if kind in MAPPINGS:
            for key, each in value.items():
                copy[key] = self._copied(each, depth)
        elif kind is not set:
            for place, each in enumerate(value):
                copy[place] = self._copied(each, depth)
        return copy

    def _add_object(self, value: Any, depth: int) -> None:
        if isinstance(value, nn.Module):
            self.add_module(value, None)
        elif id(value) not in self._depths and depth < MAX_OBJECT_DEPTH and _writable(type(value), value):
            self._depths[id(value)] = depth + 1
            self.parts.append(value)


MAPPINGS = frozenset((dict, OrderedDict, defaultdict))
CONTAINERS = MAPPINGS | {list, tuple, set, deque}
FOREIGN = ("torch._", "torch.fx", "torch.distributed", "torch.jit", "torch.utils.data", "torch.optim")
"""Objects of these packages, and of LOOPS, are not parts of a network and are never copied."""
LOOPS = frozenset(("lightning", "pytorch_lightning", "lightning_fabric"))
_WRITABLE: dict[type, bool] = {}


def _writable(kind: type, value: object) -> bool:
    """Whether the attributes of an object of that type are a dictionary that can be exchanged."""
    if kind not in _WRITABLE:
        roots = {each.__module__.partition(".")[0] for each in kind.__mro__}
        foreign = any(each.__module__.startswith(FOREIGN) for each in kind.__mro__) or not roots.isdisjoint(LOOPS)
        root = kind.__module__.partition(".")[0]
        known = root == "__main__" or root not in sys.stdlib_module_names
        _WRITABLE[kind] = known and not foreign and type(getattr(value, "__dict__", None)) is dict
    return _WRITABLE[kind]
