"""Engines: where cells are measured, and how the work is given out."""

from sharpbench.engines.bench import Bench, blank, membership
from sharpbench.engines.engine import Engine, Inline, Process, Ray, engine_of
from sharpbench.engines.schedule import Measuring, conduct
from sharpbench.engines.site import Limits, Site, parsed_bytes

__all__ = [
    "Bench",
    "Engine",
    "Inline",
    "Limits",
    "Measuring",
    "Process",
    "Ray",
    "Site",
    "blank",
    "conduct",
    "engine_of",
    "membership",
    "parsed_bytes",
]
