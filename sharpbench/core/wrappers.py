"""Modules that wrap a network for training, and the network inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeGuard

import torch
from torch import Tensor, nn

from sharpbench.errors import InvalidInput

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel, DistributedDataParallel and torch.compile put before the names of tensors."""
SHARDED = ("FullyShardedDataParallel", "FSDPModule")
"""The classes of torch.distributed.fsdp."""
FULL_WEIGHTS = (
    "load the full weights into the plain module: module.load_state_dict(get_model_state_dict(model, "
    "options=StateDictOptions(full_state_dict=True))), of torch.distributed.checkpoint.state_dict"
)


def unwrap_module(model: nn.Module) -> nn.Module:
    """The network inside DataParallel, DistributedDataParallel, torch.compile and an unsharded, outermost FSDP.

    Raises InvalidInput, with the remedy, for modules of torch.jit and for networks that hold shards of their weights.
    """
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inside := getattr(model, "_orig_mod", None), nn.Module):
            model = inside
        elif _is_sharding(model) and _is_unsharded(model):
            model = model.module
        else:
            break
    for path, part in model.named_modules():
        where = f"its part '{path}'" if path else "the model"
        if isinstance(part, torch.jit.ScriptModule):
            raise InvalidInput(f"{where} is compiled by torch.jit; give the module that it was made from")
        if _is_sharding(part):
            raise InvalidInput(f"{where} is sharded ({type(part).__name__}); {FULL_WEIGHTS}")
    for name, value in model.named_parameters():
        if type(value).__name__ == "DTensor" or type(value.data).__name__ == "DTensor":
            raise InvalidInput(f"parameter '{name}' is a DTensor, divided among devices; {FULL_WEIGHTS}")
    return model


def unwrap_names(tensors: Mapping[str, Tensor], known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by the names in the network inside, where they have those of a wrapped network.

    known: the tensors of the network inside.
    """
    return {_unwrap_name(name, known): value for name, value in tensors.items()}


def _unwrap_name(name: str, known: Mapping[str, Tensor]) -> str:
    return next((inside for inside in inside_names(name) if inside in known), name)


def inside_names(name: str) -> Iterator[str]:
    """A name, or pattern of names, of a tensor of a wrapped network, and then without each prefix of a wrapper."""
    yield name
    while prefix := next((each for each in PREFIXES if name.startswith(each)), ""):
        name = name.removeprefix(prefix)
        yield name


def _is_sharding(part: nn.Module) -> bool:
    return any(base.__name__ in SHARDED and base.__module__.startswith("torch.") for base in type(part).__mro__)


def _is_unsharded(model: nn.Module) -> TypeGuard[nn.DataParallel[nn.Module]]:
    """Whether a wrapper holds all parameters in full, as inside FSDP.summon_full_params."""
    inner = [part for part in model.modules() if part is not model and _is_sharding(part)]
    full = not any("flat_param" in name for name, _ in model.named_parameters())
    return full and not inner and isinstance(getattr(model, "module", None), nn.Module)
