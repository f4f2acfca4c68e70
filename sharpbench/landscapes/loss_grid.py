"""LossGrid: the losses of a landscape, and what they are about, as a value that figures and pages show."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sharpbench.landscapes.options import LandscapeOptions
from sharpbench.landscapes.plane import Mark, TraceShare


@dataclass(frozen=True, slots=True, eq=False)
class LossGrid:
    """The mean loss of a network at the points of a line or a plane through its weights.

    losses: float64, [points] along a line; [points, points] on a plane, a row for each coordinate of the second axis.
    NaN where the loss is not finite. grid: the coordinates along each axis. labels: what the axes are. marks:
    checkpoints in the plane. facts: numbers about the directions, in words. share: what the plane holds of the trace;
    None where second derivatives are not known, for the reason in `facts`.
    """

    name: str
    examples: int
    options: LandscapeOptions
    losses: Tensor
    grid: tuple[tuple[float, ...], ...]
    labels: tuple[str, ...]
    marks: tuple[Mark, ...] = ()
    facts: tuple[str, ...] = ()
    share: TraceShare | None = None
