"""torch.export without most of what it prepares anew for each network: half the time of a capture of a small one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import torch

_KEYS = ("_AUTOGRAD_ALIAS_BACKEND_KEYS_TO_OVERRIDE", "_BACKEND_KEYS_TO_OVERRIDE")
"""torch's lists of the kinds of device for which each of its 500 composite operators is prepared."""

_SEARCH = "_materialize_cpp_cia_ops"
"""torch's search for all composite operators, which it repeats for each namespace of operators."""

_NO_TRACES = "do_not_emit_stack_traces"
"""torch's setting by which no node notes where in the network's code it comes from."""


@contextmanager
def quick_export(devices: Collection[str]) -> Iterator[None]:
    """Inside, torch.export prepares operators only for the devices that are there, found once, and notes no code lines.

    The graphs are the same. Where torch has other names for what is shortened, nothing is.

    Args:
        devices: the types of the network's devices, such as 'cuda'.
    """
    from torch._export import utils  # takes seconds, and not all runs capture
    from torch.export import exported_program
    from torch.fx import config

    search = getattr(utils, _SEARCH, None)
    accelerator = torch.accelerator.current_accelerator()
    kinds = {"CPU", "META", *map(str.upper, devices), *([accelerator.type.upper()] if accelerator else [])}
    own = [(exported_program, name, getattr(exported_program, name, None)) for name in _KEYS]
    quick: list[tuple[ModuleType, str, Any, Any]] = [
        (module, name, keys, _of_kinds(keys, kinds)) for module, name, keys in own if keys is not None
    ]
    if search is not None:
        quick.append((utils, _SEARCH, search, cache(search)))
    if hasattr(config, _NO_TRACES):
        quick.append((config, _NO_TRACES, getattr(config, _NO_TRACES), True))
    try:
        for module, name, _, short in quick:
            setattr(module, name, short)
        yield
    finally:
        for module, name, long, _ in quick:
            setattr(module, name, long)


def _of_kinds(keys: list[Any], kinds: Collection[str]) -> list[Any]:
    """The dispatch keys of those kinds of device; all of them if one of the kinds has none."""
    by_kind = {key.name.removeprefix("Autograd").upper(): key for key in keys}
    return [by_kind[kind] for kind in by_kind if kind in kinds] if by_kind.keys() >= set(kinds) else keys
