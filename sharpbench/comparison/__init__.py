"""Comparison: measures of one quantity side by side, taking turns on the same networks."""

from sharpbench.comparison.benchmark import Playing, compare
from sharpbench.comparison.config import Comparison, contestants
from sharpbench.comparison.measurement import TURNS, Turn, iterate_turns

__all__ = ["TURNS", "Comparison", "Playing", "Turn", "compare", "contestants", "iterate_turns"]
