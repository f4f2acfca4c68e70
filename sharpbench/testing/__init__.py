"""The contract suite for measures, shipped to their authors: it knows no measure by name."""

from sharpbench.testing.examination import Check
from sharpbench.testing.suite import check_measure, examine

__all__ = ["Check", "check_measure", "examine"]
