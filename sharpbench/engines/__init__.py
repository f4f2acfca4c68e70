"""Engines: where cells are measured, and how the work is given out.

Resolved when asked for: who but watches a process that measures does without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharpbench.engines.bench import Bench as Bench
    from sharpbench.engines.bench import blank as blank
    from sharpbench.engines.bench import membership as membership
    from sharpbench.engines.engine import Engine as Engine
    from sharpbench.engines.engine import Inline as Inline
    from sharpbench.engines.engine import Process as Process
    from sharpbench.engines.engine import Ray as Ray
    from sharpbench.engines.engine import engine_of as engine_of
    from sharpbench.engines.outcome import Measuring as Measuring
    from sharpbench.engines.schedule import conduct as conduct
    from sharpbench.engines.site import Limits as Limits
    from sharpbench.engines.site import Site as Site
    from sharpbench.engines.site import parsed_bytes as parsed_bytes

_HOME = {
    **dict.fromkeys(("Bench", "blank", "membership"), "bench"),
    **dict.fromkeys(("Engine", "Inline", "Process", "Ray", "engine_of"), "engine"),
    "Measuring": "outcome",
    "conduct": "schedule",
    **dict.fromkeys(("Limits", "Site", "parsed_bytes"), "site"),
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"sharpbench.engines.{_HOME[name]}"), name)
    raise AttributeError(f"module 'sharpbench.engines' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
