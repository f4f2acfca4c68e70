"""Measures of one quantity compared side by side on the same networks, in interleaved rounds."""

from sharpbench.comparison.benchmark import ContestantStarted, compare
from sharpbench.comparison.config import Comparison, find_contestants
from sharpbench.comparison.measurement import MEASUREMENTS_FILE, Measurement, read_measurements

__all__ = [
    "MEASUREMENTS_FILE",
    "Comparison",
    "ContestantStarted",
    "Measurement",
    "compare",
    "find_contestants",
    "read_measurements",
]
