"""The measures that a tracker takes: those of the dynamics, and those of the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sharpbench.core.measure import Measure
from sharpbench.core.registry import available
from sharpbench.core.spec import format_spec, parse_specs
from sharpbench.errors import InvalidInput
from sharpbench.tracking.dynamics import DYNAMICS, DynamicsMeasure

DEFAULT_MEASURES = "top-eigenvalue,critical-sharpness,gradient-norm"


def parse_measures(given: str | Sequence[str | Measure]) -> tuple[DynamicsMeasure | Measure, ...]:
    """The measures that `given` names: those of the dynamics, and those of the registry.

    Raises InvalidInput for an unknown one, and where none is named.
    """
    offered: Mapping[str, type[Any]] = {**available("measures").classes, **{each.name: each for each in DYNAMICS}}
    parts = [given] if isinstance(given, str) else list(given)
    found: list[DynamicsMeasure | Measure] = []
    for part in parts:
        if isinstance(part, str):
            found += parse_specs(part, offered, kind="measure")
        elif isinstance(part, DynamicsMeasure | Measure):
            found.append(part)
        else:
            raise InvalidInput(f"measures= holds a {type(part).__name__}; give names or Measures")
    if not found:
        raise InvalidInput(f"measures= names none; the default is '{DEFAULT_MEASURES}'")
    return tuple({format_spec(each): each for each in found}.values())
