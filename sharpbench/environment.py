"""The environment of a measurement: versions, device, free memory, numerical settings; timm and torchvision."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpbench.errors import InvalidInput, shorten
from sharpbench.version import __version__

Facts = dict[str, str | int | float | bool | None]
"""Properties of an installation by name, as JSON scalars."""

_schemas: list[torch.library.Library] = []  # operators live as long as the library object that defined them


def import_timm() -> ModuleType:
    """The library timm, also where the installed torchvision does not fit torch."""
    return _import_with_schemas("timm")


def import_torchvision() -> ModuleType:
    """The library torchvision, also where its compiled operators do not load."""
    return _import_with_schemas("torchvision")


def _import_with_schemas(name: str) -> ModuleType:
    """The module `name`, which is timm or torchvision.

    PyPI's torchvision is built for CUDA. With a torch without CUDA its compiled operators do not load, and its import
    fails at the first operator for which it registers a rule. sharpbench uses none of these operators, so it is
    enough to define their schemas.
    """
    try:
        return import_module(name)
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _schemas:
            raise
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _schemas.append(library)
        return import_module(name)


def free_bytes(device: torch.device) -> int | None:
    """The free memory of the device: as CUDA reports it, with what torch keeps for its next tensors, or Linux's
    MemAvailable; None where neither is known."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def describe_environment(device: str) -> Facts:
    """Versions, machine and numerical settings as JSON scalars; equal for all cells of one process."""
    return {
        "sharpbench": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.system(),
        "machine": platform.machine(),
        "processor": _read_processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "cuda": torch.version.cuda if device == "cuda" else None,
        "tf32": _uses_tf32(),
    }


_GENERAL: tuple[Any, ...] = (torch.backends, torch.backends.cudnn, torch.backends.mkldnn)
"""Where torch has a setting for all operators, and for those of a library."""
_ON_GPU: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)  # type: ignore[attr-defined]
_ON_CPU: tuple[Any, ...] = tuple(
    getattr(torch.backends.mkldnn, name) for name in ("matmul", "conv", "rnn") if hasattr(torch.backends.mkldnn, name)
)
_SHORTER = ("tf32", "bf16")
"""What torch calls float32 products of fewer bits."""


def _uses_tf32() -> bool:
    """Whether some float32 products of a GPU may be in TF32.

    Read from the newer one of torch's two interfaces: the older one raises where a user has used the newer one.
    """
    return any(each.fp32_precision == "tf32" for each in _ON_GPU)


def _require_float32_products() -> None:
    """Compute float32 products in float32, by both of torch's interfaces: reading one raises where they contradict."""
    for each in _GENERAL:  # those of single operators then count
        each.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")  # of the CPU as well
    for each in _ON_CPU:
        each.fp32_precision = "ieee"
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def float32_products() -> Iterator[None]:
    """Inside, products of float32 tensors are computed in float32, whatever the caller has set; it is set back."""
    places = (*_GENERAL, *_ON_GPU, *_ON_CPU)
    deciding = (*_ON_GPU, *_ON_CPU) if torch.cuda.is_available() else _ON_CPU
    if not any(each.fp32_precision in _SHORTER for each in deciding):
        yield
        return
    before = [each.fp32_precision for each in places]
    older = _read_older()
    _require_float32_products()
    try:
        yield
    finally:
        for set_older, value in older:
            set_older(value)
        for each, precision in zip(places, before, strict=True):
            each.fp32_precision = precision


def _read_older() -> list[tuple[Callable[[Any], None], Any]]:
    """How the settings of torch's older interface are set back; without those that cannot be read."""

    def allow_products(value: bool) -> None:
        torch.backends.cuda.matmul.allow_tf32 = value

    def allow_convolutions(value: bool) -> None:
        torch.backends.cudnn.allow_tf32 = value

    settings: list[tuple[Callable[[], Any], Callable[[Any], None]]] = [
        (lambda: torch.backends.cuda.matmul.allow_tf32, allow_products),
        (lambda: torch.backends.cudnn.allow_tf32, allow_convolutions),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    ]
    found = []
    for read, write in settings:
        with suppress(RuntimeError):  # the newer one was used as well
            found.append((write, read()))
    return found


HEAP_BLOCK_BYTES = 2**25 - 2**16
"""A little less than the largest block to which glibc adapts, 32 MiB with its header."""
MAX_THREADS = 1024
"""Threads of torch in a process: far more than processors, and less than crashes it."""


def check_threads(threads: int | None) -> None:
    """Raise InvalidInput for a number of threads out of range; None is as many as there are cores."""
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise InvalidInput(f"threads={threads} must be from 1 to {MAX_THREADS}, or none for as many as there are cores")


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory in place of returning it to the system.

    glibc takes blocks above a threshold from the system, returns them when they are freed, and trims the heap above
    twice that threshold. Chunks of examples then pay for the same pages again and again. It raises the threshold to
    the largest block that was freed, up to 32 MiB: one such block, which is not written to, is taken and freed here.
    The process afterwards keeps at most 64 MiB of freed memory. With other allocators this has no effect.
    """
    np.empty(HEAP_BLOCK_BYTES, dtype=np.uint8)  # torch's own allocator reports its blocks to profilers


def apply_settings(device: str, threads: int) -> None:
    """Set what values and times depend on: the number of threads, and float32 products without TF32."""
    torch.set_num_threads(threads)
    _require_float32_products()
    if device == "cuda":
        torch.backends.cudnn.benchmark = False
    quiet = torch._C._debug_only_display_vmap_fallback_warnings  # type: ignore[attr-defined]  # untyped, in 2.9 to 2.13
    quiet(False)  # otherwise vmap warns about every operator that it runs example by example


def describe_machine(device: str) -> Facts:
    """`describe_environment`, with CUDA devices, free memory, attention back end and optional libraries."""
    free = free_bytes(torch.device(device))
    return {
        **describe_environment(device),
        "CUDA devices": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "memory free": None if free is None else f"{free / 2**30:.1f} GiB",
        "attention": _describe_attention(device),
        "timm": _describe_library("timm", import_timm),
        "torchvision": _describe_library("torchvision", import_torchvision),
    }


def _describe_attention(device: str) -> str:
    """Whether the math back end of attention can be differentiated twice, found by trying it."""
    ones = torch.ones(1, 2, 4, device=device)

    def attend(queries: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(queries, queries * ones, ones).square().sum()

    try:
        with sdpa_kernel(SDPBackend.MATH):
            torch.func.jvp(torch.func.grad(attend), (ones,), (ones,))
    except RuntimeError as error:
        return f"cannot be differentiated twice: {shorten(str(error))}"
    return "math back end, differentiated twice"


def _describe_library(name: str, import_it: Callable[[], object]) -> str:
    """The version of the library, or why it cannot be used."""
    try:
        import_it()
        return importlib.metadata.version(name)
    except Exception as error:  # a library may raise anything at import
        return f"unusable: {type(error).__name__}: {shorten(str(error))}"


def resolve_device(wanted: str) -> str:
    """'cpu' or 'cuda' for --device auto, cpu or cuda. Raises InvalidInput for other words, or without CUDA."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise InvalidInput(f"device '{shorten(str(wanted))}' is none of auto, cpu, cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device 'cuda' is requested, but torch sees no CUDA device; use --device cpu")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _read_processor_name() -> str:
    """The processor's model name from Linux's /proc/cpuinfo; on other systems as Python reports it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
