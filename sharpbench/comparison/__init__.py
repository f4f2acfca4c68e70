"""Comparison: measures of one quantity side by side, taking turns on the same networks."""

from sharpbench.comparison.match import Playing, compare
from sharpbench.comparison.settings import Comparison, contestants
from sharpbench.comparison.turn import TURNS, Turn, iterate_turns

__all__ = ["TURNS", "Comparison", "Playing", "Turn", "compare", "contestants", "iterate_turns"]
