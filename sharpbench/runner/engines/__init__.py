"""Engines: where cells are measured, and how the work is given out.

Resolved when asked for: who but watches a process that measures does without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharpbench.runner.engines.base import Limits as Limits
    from sharpbench.runner.engines.base import Measuring as Measuring
    from sharpbench.runner.engines.base import Site as Site
    from sharpbench.runner.engines.base import parsed_bytes as parsed_bytes
    from sharpbench.runner.engines.engine import Engine as Engine
    from sharpbench.runner.engines.engine import Inline as Inline
    from sharpbench.runner.engines.engine import Process as Process
    from sharpbench.runner.engines.engine import Ray as Ray
    from sharpbench.runner.engines.engine import engine_of as engine_of
    from sharpbench.runner.engines.scheduler import conduct as conduct

_HOME = {
    **dict.fromkeys(("Engine", "Inline", "Process", "Ray", "engine_of"), "engine"),
    **dict.fromkeys(("Limits", "Measuring", "Site", "parsed_bytes"), "base"),
    "conduct": "scheduler",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"sharpbench.runner.engines.{_HOME[name]}"), name)
    raise AttributeError(f"module 'sharpbench.runner.engines' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
