"""Engines: where cells are measured, and how the work is given out.

Resolved when asked for: who but watches a process that measures does without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharpbench.runner.engines.base import CellStarted as CellStarted
    from sharpbench.runner.engines.base import Limits as Limits
    from sharpbench.runner.engines.base import parse_bytes as parse_bytes
    from sharpbench.runner.engines.engine import Engine as Engine
    from sharpbench.runner.engines.engine import Inline as Inline
    from sharpbench.runner.engines.engine import Process as Process
    from sharpbench.runner.engines.engine import Ray as Ray
    from sharpbench.runner.engines.engine import make_engine as make_engine
    from sharpbench.runner.engines.scheduler import schedule as schedule

_HOME = {
    **dict.fromkeys(("Engine", "Inline", "Process", "Ray", "make_engine"), "engine"),
    **dict.fromkeys(("Limits", "CellStarted", "parse_bytes"), "base"),
    "schedule": "scheduler",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"sharpbench.runner.engines.{_HOME[name]}"), name)
    raise AttributeError(f"module 'sharpbench.runner.engines' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
