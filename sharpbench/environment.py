"""Environment: what a number was measured with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpbench.errors import InvalidInput, short
from sharpbench.version import __version__

Facts = dict[str, str | int | float | bool | None]
"""What is known of an installation, as JSON scalars."""

_schemas: list[torch.library.Library] = []  # operators live as long as the library object that defined them


def import_timm() -> ModuleType:
    """The library timm."""
    return _import_with_schemas("timm")


def import_torchvision() -> ModuleType:
    """The library torchvision."""
    return _import_with_schemas("torchvision")


def _import_with_schemas(name: str) -> ModuleType:
    """The module `name`, which is timm or torchvision.

    PyPI's torchvision is built for CUDA: beside a torch without CUDA its compiled operators do not load, and its
    import fails at the first of them that it registers a rule for. Neither library needs any of them here, so
    their bare schemas are enough.
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
    """Memory that is free on the device: CUDA's own figure, Linux's MemAvailable; None where neither can tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def describe_environment(device: str) -> Facts:
    """Versions, machine and numerical settings, as JSON scalars; the same for all cells of one process."""
    return {
        "sharpbench": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.system(),
        "machine": platform.machine(),
        "processor": _read_processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "cuda": torch.version.cuda if device == "cuda" else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
    }


def apply_settings(device: str, threads: int) -> None:
    """Fix what numbers and times depend on: the thread count, and float32 that is float32 (no TF32)."""
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if device == "cuda":
        torch.backends.cudnn.benchmark = False
    quiet = torch._C._debug_only_display_vmap_fallback_warnings  # type: ignore[attr-defined]  # untyped, in 2.9 to 2.13
    quiet(False)  # else a line on the terminal for every operator that vmap takes one by one


def describe_machine(device: str) -> Facts:
    """What the machine offers beyond `describe_environment`: free memory, libraries and numerical settings."""
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
    """Whether the back end that networks are run on here can be differentiated twice, tried out."""
    some = torch.ones(1, 2, 4, device=device)

    def attended(queries: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(queries, queries * some, some).square().sum()

    try:
        with sdpa_kernel(SDPBackend.MATH):
            torch.func.jvp(torch.func.grad(attended), (some,), (some,))
    except RuntimeError as error:
        return f"cannot be differentiated twice: {short(str(error))}"
    return "math back end, differentiated twice"


def _describe_library(name: str, imported: Callable[[], object]) -> str:
    """The library's version, or why it cannot be used."""
    try:
        imported()
        return importlib.metadata.version(name)
    except Exception as error:  # whatever a library raises at import
        return f"unusable: {type(error).__name__}: {short(str(error))}"


def resolve_device(wanted: str) -> str:
    """'cpu' or 'cuda' for --device auto|cpu|cuda."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise InvalidInput(f"device '{short(str(wanted))}' is none of auto, cpu, cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device 'cuda' is asked for, but torch sees no CUDA device; use --device cpu")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _read_processor_name() -> str:
    """The processor's model name, as Linux tells it; elsewhere what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
