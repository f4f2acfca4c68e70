"""The contract suite for measures, for use by their authors; it treats all measures alike, whatever their names."""

from sharpbench.testing.examination import Check
from sharpbench.testing.suite import check_measure, examine

__all__ = ["Check", "check_measure", "examine"]
