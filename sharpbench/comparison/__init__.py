"""Comparison: measures of one quantity side by side, taking turns on the same networks."""

from sharpbench.comparison.benchmark import ContestantStarted, compare
from sharpbench.comparison.config import Comparison, contestants
from sharpbench.comparison.measurement import MEASUREMENTS, Measurement, read_measurements

__all__ = [
    "MEASUREMENTS",
    "Comparison",
    "ContestantStarted",
    "Measurement",
    "compare",
    "contestants",
    "read_measurements",
]
