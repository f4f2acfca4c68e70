"""Bounds of the hyperparameters that several adapters have."""

from __future__ import annotations

from sharpbench import InvalidInput


def check_samples(samples: int) -> None:
    """Raises InvalidInput unless the number of products is from 1 to 100,000."""
    if not 1 <= samples <= 100_000:
        raise InvalidInput(f"samples={samples} must be from 1 to 100000")


def check_tolerance(tolerance: float) -> None:
    """Raises InvalidInput unless the relative tolerance is at least 0 and below 1."""
    if not 0 <= tolerance < 1:
        raise InvalidInput(f"tolerance={tolerance} must be at least 0 and below 1")
