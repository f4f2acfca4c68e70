"""sharpbench: a benchmark harness and leaderboard suite for sharpness measures of neural networks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sharpbench.version import __version__

if TYPE_CHECKING:
    from sharpbench import curvature as curvature
    from sharpbench import symmetry as symmetry
    from sharpbench.core.evaluate import measure as measure
    from sharpbench.core.measure import Estimate as Estimate
    from sharpbench.core.measure import Measure as Measure
    from sharpbench.core.measure import NotApplicable as NotApplicable
    from sharpbench.core.record import Record as Record
    from sharpbench.core.records import read_records as read_records
    from sharpbench.core.subject import Subject as Subject
    from sharpbench.errors import InvalidInput as InvalidInput
    from sharpbench.runner.cell import Cell as Cell
    from sharpbench.runner.plan import plan as plan
    from sharpbench.runner.run import run as run

# Where each public name lives. Nothing is imported before it is asked for: `import sharpbench` stays
# without torch. No module bears the name of a public function, which would shadow it.
_HOME = {
    "Cell": "runner.cell",
    "Estimate": "core.measure",
    "InvalidInput": "errors",
    "Measure": "core.measure",
    "NotApplicable": "core.measure",
    "Record": "core.record",
    "Subject": "core.subject",
    "measure": "core.evaluate",
    "plan": "runner.plan",
    "read_records": "core.records",
    "run": "runner.run",
}
_PACKAGES = ("curvature", "symmetry")

__all__ = ["__version__", *_HOME, *_PACKAGES]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"sharpbench.{name}")
    if name in _HOME:
        return getattr(import_module(f"sharpbench.{_HOME[name]}"), name)
    raise AttributeError(f"module 'sharpbench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
