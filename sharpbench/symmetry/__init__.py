"""Symmetry: the rescaling group of a network, and minimisation over it."""

from sharpbench.symmetry.group import RescalingGroup, group_of, rescaling_group
from sharpbench.symmetry.minimisation import GAP, Minimum, minimise
from sharpbench.symmetry.scaling import TOLERANCE, Scaled, scale_columns, scale_rows_and_columns

__all__ = [
    "GAP",
    "TOLERANCE",
    "Minimum",
    "RescalingGroup",
    "Scaled",
    "group_of",
    "minimise",
    "rescaling_group",
    "scale_columns",
    "scale_rows_and_columns",
]
