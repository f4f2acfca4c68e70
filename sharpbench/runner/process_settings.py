"""Process-wide settings, which a measure may change for all cells after it, restored after each cell."""

from __future__ import annotations

import contextlib
import gc
import operator
import os
import random
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import overrides
from torch.nn.modules import module as nn_module
from torch.utils import _python_dispatch

LIMITS = (
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_CPU,
    resource.RLIMIT_AS,
    resource.RLIMIT_DATA,
    resource.RLIMIT_STACK,
)
SIGNALS = tuple(number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP))
HOOKS = (
    nn_module._global_forward_pre_hooks,
    nn_module._global_forward_hooks,
    nn_module._global_backward_pre_hooks,
    nn_module._global_backward_hooks,
)
"""The hooks that torch calls for every module."""


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


def _transforms() -> int:
    return int(torch._C._functorch.get_dynamic_layer_stack_depth())


def _undo_transforms(depth: int) -> None:
    torch._C._functorch.pop_dynamic_layer_stack_and_undo_to_depth(depth)


def _modes() -> tuple[int, ...]:
    """The modes that intercept torch's functions and operators, by identity."""
    modes = [*overrides._get_current_function_mode_stack(), *_python_dispatch._get_current_dispatch_mode_stack()]
    return tuple(map(id, modes))


def _hooks() -> tuple[dict[int, Any], ...]:
    return tuple(dict(hooks) for hooks in HOOKS)


def _set_hooks(kept: tuple[dict[int, Any], ...]) -> None:
    for hooks, before in zip(HOOKS, kept, strict=True):
        hooks.clear()
        hooks.update(before)


def _saved_tensor_hooks() -> Any:
    return torch._C._autograd._top_saved_tensors_default_hooks(False)


def _drop_saved_tensor_hooks(top: Any) -> None:
    while _saved_tensor_hooks() not in (top, None):
        torch._C._autograd._pop_saved_tensors_default_hooks()


def _set_errors(kinds: Any) -> None:
    np.seterr(**kinds)


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in SIGNALS}


def _set_handlers(kept: dict[int, Any]) -> None:
    for number, handler in kept.items():
        if signal.getsignal(number) != handler:
            signal.signal(number, handler)


def _timers() -> tuple[bool, ...]:
    """Which of the timers that send signals are on."""
    return tuple(any(signal.getitimer(kind)) for kind in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL))


def _stop_timers(kept: tuple[bool, ...]) -> None:
    for kind, was_on in zip((signal.ITIMER_REAL, signal.ITIMER_VIRTUAL), kept, strict=True):
        if not was_on:
            signal.setitimer(kind, 0.0)


def _limits() -> dict[int, tuple[int, int]]:
    return {limit: resource.getrlimit(limit) for limit in LIMITS}


def _set_limits(kept: dict[int, tuple[int, int]]) -> None:
    for limit, values in kept.items():
        resource.setrlimit(limit, values)


def _file_mode_mask() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return -1


def _streams() -> tuple[Any, ...]:
    """Python's standard streams, and which of them and of their files are open."""
    objects = (sys.stdin, sys.stdout, sys.stderr)
    open_files = []
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            continue
        open_files.append(number)
    return (*objects, *(getattr(each, "closed", None) for each in objects), *open_files)


def _set_streams(kept: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = kept[:3]


def _collector() -> tuple[bool, tuple[int, int, int]]:
    return gc.isenabled(), gc.get_threshold()


def _set_collector(kept: tuple[bool, tuple[int, int, int]]) -> None:
    (gc.enable if kept[0] else gc.disable)()
    gc.set_threshold(*kept[1])


def _processors() -> tuple[int, ...]:
    """The processors that this process may use; empty where the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def _set_processors(kept: tuple[int, ...]) -> None:
    os.sched_setaffinity(0, kept)


def _priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def _set_priority(kept: int) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, kept)


def _fused_attention() -> tuple[bool, ...]:
    backends = torch.backends.cuda
    return (backends.flash_sdp_enabled(), backends.mem_efficient_sdp_enabled(), backends.math_sdp_enabled())


def _set_fused_attention(kept: tuple[bool, ...]) -> None:
    for enable, value in zip(
        (
            torch.backends.cuda.enable_flash_sdp,
            torch.backends.cuda.enable_mem_efficient_sdp,
            torch.backends.cuda.enable_math_sdp,
        ),
        kept,
        strict=True,
    ):
        enable(value)


def _never(_: Any) -> None:
    """What cannot be restored remains changed, which `restore` finds."""


Setting = tuple[Callable[[], Any], Callable[[Any], object]]
SETTINGS: dict[str, Setting] = {
    "the limits of the process": (_limits, _set_limits),
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, _set_default_device),
    "torch's threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's inference mode": (torch.is_inference_mode_enabled, _never),
    "torch's anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "torch's deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "torch's matmul precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "torch's TF32": (lambda: torch.backends.cuda.matmul.allow_tf32, _set_matmul),
    "torch's cuDNN flags": (_cudnn, _set_cudnn),
    "torch's MKL-DNN flag": (torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled),
    "torch's autocast": (
        lambda: torch.is_autocast_enabled("cpu"),
        lambda on: torch.set_autocast_enabled("cpu", on),
    ),
    "torch's NNPACK flag": (torch._C._get_nnpack_enabled, torch._C._set_nnpack_enabled),
    "torch's fused attention": (_fused_attention, _set_fused_attention),
    "torch's fast attention": (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled),
    "torch's function transforms": (_transforms, _undo_transforms),
    "torch's modes": (_modes, _never),
    "torch's hooks of all modules": (_hooks, _set_hooks),
    "torch's hooks of saved tensors": (_saved_tensor_hooks, _drop_saved_tensor_hooks),
    "numpy's floating-point errors": (np.geterr, _set_errors),
    "the processors of the process": (_processors, _set_processors),
    "the priority of the process": (_priority, _set_priority),
    "the working folder": (os.getcwd, os.chdir),
    "the mask of file modes": (_file_mode_mask, os.umask),
    "the timers of the process": (_timers, _stop_timers),
    "Python's standard streams": (_streams, _set_streams),
    "Python's trace function": (sys.gettrace, sys.settrace),
    "Python's recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "Python's profile function": (sys.getprofile, sys.setprofile),
    "Python's interval between threads": (sys.getswitchinterval, sys.setswitchinterval),
    "Python's garbage collector": (_collector, _set_collector),
}
"""Name -> the functions that read and set it."""
MAIN_THREAD_SETTINGS: dict[str, Setting] = {"the signal handlers": (_handlers, _set_handlers)}
"""Settings that Python lets only the main thread set."""


class ProcessSettings:
    """The settings of this process and the states of its global random generators, as they are now.

    Environment variables, Python's filters of warnings and what it imports from, all of which imports change, and
    generators are restored silently.
    """

    def __init__(self) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        self.settings, self.values = dict[str, Setting](), dict[str, Any]()
        for name, setting in ({**SETTINGS, **MAIN_THREAD_SETTINGS} if is_main else SETTINGS).items():
            with contextlib.suppress(RuntimeError):  # flags of torch that contradict each other are not followed
                self.values[name] = setting[0]()
                self.settings[name] = setting
        self.generators = torch.get_rng_state(), random.getstate(), np.random.get_state()
        self.filters, self.variables = list(warnings.filters), dict(os.environ)
        self.folders, self.modules = list(sys.path), dict(sys.modules)
        self.lasting: tuple[str, ...] = ()

    def restore(self) -> tuple[str, ...]:
        """Restore everything; the names of the settings that were changed, and in `lasting` those that still are."""
        changed = []
        for name in self.settings:  # the limits come first: without files others cannot be read
            if not self._is_kept(name):
                changed.append(name)
                with contextlib.suppress(RuntimeError, OSError, ValueError, TypeError):
                    self.settings[name][1](self.values[name])
        self.lasting = tuple(name for name in changed if not self._is_kept(name))
        if not torch.is_inference_mode_enabled():
            torch.set_rng_state(self.generators[0])
        random.setstate(self.generators[1])
        np.random.set_state(self.generators[2])
        if warnings.filters != self.filters:
            warnings.filters[:] = self.filters  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined]
        if dict(os.environ) != self.variables:
            os.environ.clear()
            os.environ.update(self.variables)
        sys.path[:] = self.folders
        if not all(map(operator.is_, map(sys.modules.get, self.modules), self.modules.values())):
            sys.modules.update(self.modules)
        return tuple(changed)

    def _is_kept(self, name: str) -> bool:
        try:
            return bool(self.settings[name][0]() == self.values[name])
        except (RuntimeError, OSError):  # flags of torch that contradict each other; a folder that is gone
            return False
