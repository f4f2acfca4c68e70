"""Cohorts by name: the families of networks on which measures are judged."""

from sharpbench.cohorts.label_noise import LabelNoise, LabelNoisePaper

COHORTS = (LabelNoise, LabelNoisePaper)

__all__ = ["COHORTS", "LabelNoise", "LabelNoisePaper"]
