"""Environment: what a number was measured with."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from sharpbench.contract import Scalar
from sharpbench.errors import InvalidInput, short
from sharpbench.version import __version__


def environment(device: str) -> dict[str, Scalar]:
    """Versions, machine and numerical settings, as JSON scalars; the same for all cells of one process."""
    return {
        "sharpbench": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "cuda": torch.version.cuda if device == "cuda" else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
    }


def settle(device: str, threads: int) -> None:
    """Fix what numbers and times depend on: the thread count, and float32 that is float32 (no TF32)."""
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if device == "cuda":
        torch.backends.cudnn.benchmark = False
    quiet = torch._C._debug_only_display_vmap_fallback_warnings  # type: ignore[attr-defined]  # untyped, in 2.9 to 2.13
    quiet(False)  # else a line on the terminal for every operator that vmap takes one by one


def resolve_device(wanted: str) -> str:
    """'cpu' or 'cuda' for --device auto|cpu|cuda."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise InvalidInput(f"device '{short(str(wanted))}' is none of auto, cpu, cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device 'cuda' is asked for, but torch sees no CUDA device; use --device cpu")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def _processor() -> str:
    """The processor's model name, as Linux tells it; elsewhere what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
