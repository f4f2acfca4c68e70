"""Symmetry: the rescaling group of a network, and minimisation over it."""

from sharpbench.symmetry.describe import Description, describe
from sharpbench.symmetry.group import SCOPES, RescalingGroup, Scope, group_of, rescaling_group
from sharpbench.symmetry.minimum.layers import GAP, Minimum, minimise
from sharpbench.symmetry.minimum.matrix_scaling import TOLERANCE, Scaled, scale_columns, scale_rows_and_columns
from sharpbench.symmetry.minimum.trace import Least, as_arrays, balance, diagonal_for, least
from sharpbench.symmetry.minimum.units import GRADIENT
from sharpbench.symmetry.random_rewrites import Rewrites, rewrites

__all__ = [
    "GAP",
    "GRADIENT",
    "SCOPES",
    "TOLERANCE",
    "Description",
    "Least",
    "Minimum",
    "RescalingGroup",
    "Rewrites",
    "Scaled",
    "Scope",
    "as_arrays",
    "balance",
    "describe",
    "diagonal_for",
    "group_of",
    "least",
    "minimise",
    "rescaling_group",
    "rewrites",
    "scale_columns",
    "scale_rows_and_columns",
]
