"""The training curve of a network as places in a picture, which a template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sharpbench.core.curve import Curve

HEIGHT, TOP, BOTTOM = 230.0, 8.0, 40.0
LEFT, RIGHT = 60.0, 444.0
"""Of the axes, in units of the view box, which is as wide as that of the other pictures."""
MAX_EPOCH_TICKS = 6
MIN_DECADES = 0.6
"""The least length of the axis of losses."""
LONG_AXIS_DECADES = 1.5
"""From this length on only powers of ten are ticks."""


@dataclass(frozen=True, slots=True)
class CurvePicture:
    """The mean training loss by epoch.

    Args:
        lines: The points of each line, as `polyline` takes them; a loss that the scale does not have ends a line.
        marks: The place and the text of each point.
        text: What the picture shows, in words.
        values: Epoch and loss of every point.
    """

    height: float
    x_ticks: tuple[tuple[str, float], ...]
    y_ticks: tuple[tuple[str, float], ...]
    lines: tuple[str, ...]
    marks: tuple[tuple[float, float, str], ...]
    text: str
    values: tuple[tuple[str, str], ...]


def draw_curve(curve: Curve) -> CurvePicture | None:
    """The picture of a training curve; None where fewer than two points have a positive loss, for a log scale."""
    points = sorted((int(epoch), loss) for epoch, loss in curve.items())
    shown = [(epoch, loss) for epoch, loss in points if loss is not None and loss > 0]
    if len(shown) < 2:
        return None
    logs = [math.log10(loss) for _, loss in shown]
    middle, half = (min(logs) + max(logs)) / 2, max(max(logs) - min(logs), MIN_DECADES) * 0.54
    last = points[-1][0]

    def across(epoch: float) -> float:
        return round(LEFT + epoch / last * (RIGHT - LEFT), 1)

    def down(loss: float) -> float:
        return round(TOP + (middle + half - math.log10(loss)) / (2 * half) * (HEIGHT - BOTTOM - TOP), 1)

    (first, begin), (end, final) = shown[0], shown[-1]
    lowest = min(loss for _, loss in shown)
    return CurvePicture(
        height=HEIGHT,
        x_ticks=tuple((f"{epoch:g}", across(epoch)) for epoch in _epoch_ticks(last)),
        y_ticks=tuple((f"{loss:g}", down(loss)) for loss in _loss_ticks(middle - half, middle + half)),
        lines=tuple(
            " ".join(f"{across(epoch)},{down(loss)}" for epoch, loss in line) for line in _unbroken_lines(points)
        ),
        marks=tuple((across(epoch), down(loss), f"epoch {epoch}: {loss:g} nats") for epoch, loss in shown),
        text=(
            f"mean training loss by epoch, from {begin:g} nats in epoch {first} to {final:g} nats in epoch {end}, the "
            f"lowest {lowest:g} nats"
        ),
        values=tuple((str(epoch), "not finite" if loss is None else f"{loss:g}") for epoch, loss in points),
    )


def _unbroken_lines(points: Sequence[tuple[int, float | None]]) -> list[list[tuple[int, float]]]:
    """Runs of at least two points with a positive loss."""
    runs: list[list[tuple[int, float]]] = [[]]
    for epoch, loss in points:
        if loss is not None and loss > 0:
            runs[-1].append((epoch, loss))
        else:
            runs.append([])
    return [run for run in runs if len(run) > 1]


def _epoch_ticks(last: int) -> list[int]:
    """Multiples of 1, 2 or 5 times a power of ten up to the last epoch, from 0."""
    step = next(
        factor * 10**power
        for power in range(len(str(last)) + 1)
        for factor in (1, 2, 5)
        if last // (factor * 10**power) < MAX_EPOCH_TICKS
    )
    return list(range(0, last + 1, step))


def _loss_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between two logarithms; on a short axis 2 and 5 times these also."""
    factors = (1,) if high - low >= LONG_AXIS_DECADES else (1, 2, 5)
    every = [factor * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for factor in factors]
    return [loss for loss in every if low <= math.log10(loss) <= high]
