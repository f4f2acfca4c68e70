"""Process-wide settings, which a measure may change for all cells after it, restored after each cell."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def _set_matmul(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed


def _set_cudnn(flags: tuple[bool, bool, bool, bool]) -> None:
    backend = torch.backends.cudnn
    backend.enabled, backend.benchmark, backend.deterministic, backend.allow_tf32 = flags


def _cudnn() -> tuple[bool, bool, bool, bool]:
    backend = torch.backends.cudnn
    return backend.enabled, backend.benchmark, backend.deterministic, backend.allow_tf32


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # None is what a process begins with


def _set_errors(kinds: Any) -> None:
    np.seterr(**kinds)


SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, _set_default_device),
    "torch's threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "torch's deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "torch's matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "torch's TF32": (lambda: torch.backends.cuda.matmul.allow_tf32, _set_matmul),
    "torch's cuDNN flags": (_cudnn, _set_cudnn),
    "torch's autocast": (
        lambda: torch.is_autocast_enabled("cpu"),
        lambda on: torch.set_autocast_enabled("cpu", on),
    ),
    "torch's fast attention": (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled),
    "numpy's floating-point errors": (np.geterr, _set_errors),
    "the working folder": (os.getcwd, os.chdir),
}
"""Name -> the functions that read and set it."""


class ProcessSettings:
    """The settings of this process and the states of its global random generators, as they are now."""

    def __init__(self) -> None:
        self.values = {name: read() for name, (read, _) in SETTINGS.items()}
        self.generators = torch.get_rng_state(), random.getstate(), np.random.get_state()

    def restore(self) -> tuple[str, ...]:
        """Restore settings and generators; the names of the settings that were changed."""
        changed = []
        for name, (read, put) in SETTINGS.items():
            try:
                same = read() == self.values[name]
            except (RuntimeError, OSError):  # flags of torch that contradict each other; a folder that is gone
                same = False
            if not same:
                put(self.values[name])
                changed.append(name)
        torch.set_rng_state(self.generators[0])
        random.setstate(self.generators[1])
        np.random.set_state(self.generators[2])
        return tuple(changed)
