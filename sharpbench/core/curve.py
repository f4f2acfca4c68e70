"""The training curve of a network: its mean training loss by epoch, thinned to few points."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from sharpbench.core.fields import field_error
from sharpbench.errors import shorten

Curve = Mapping[str, float | None]
"""Epoch, from 1, as text, as JSON has it -> the mean training loss over its batches; None: not finite."""
MAX_CURVE_POINTS = 50
LOSS_DIGITS = 4
"""Significant digits of the losses."""
EPOCH_PATTERN = re.compile("[1-9][0-9]{0,8}")


def extend_curve(curve: Curve, epoch: int, loss: float) -> Curve:
    """The curve with the loss of one more epoch.

    It keeps the first epoch, every n-th and the last one, where n is the least power of two that leaves at most
    MAX_CURVE_POINTS points. So a curve depends on its losses only, not on interruptions of the training.

    Args:
        curve: of the epochs before.
        epoch: the number of the epoch, from 1.
        loss: the mean training loss over its batches.

    >>> extend_curve({"1": 2.303}, 2, 1.98765)
    {'1': 2.303, '2': 1.988}
    """
    step = 1
    while epoch > (MAX_CURVE_POINTS - 2) * step:
        step *= 2
    kept = {each: known for each, known in curve.items() if each == "1" or int(each) % step == 0}
    return {**kept, str(epoch): float(f"{loss:.{LOSS_DIGITS}g}") if math.isfinite(loss) else None}


def curve_error(curve: Any) -> str:
    """What completes the sentence 'the training curve ...', or '' for a curve as `extend_curve` makes it.

    >>> curve_error({"0": 2.3})
    "has the epoch '0', which is not a whole number from 1"
    """
    if wrong := field_error(curve, Curve):
        return wrong
    if len(curve) > MAX_CURVE_POINTS:
        return f"has {len(curve):,} points, more than {MAX_CURVE_POINTS}"
    odd = next((epoch for epoch in curve if not EPOCH_PATTERN.fullmatch(epoch)), None)
    return "" if odd is None else f"has the epoch {shorten(repr(odd))}, which is not a whole number from 1"
