"""Symmetry: the rescaling group of a network, and minimisation over it."""

from sharpbench.symmetry.describe import GroupDescription, describe
from sharpbench.symmetry.group import SCOPES, RescalingGroup, Scope, group_of, rescaling_group
from sharpbench.symmetry.minimum.layers import GAP, LayerMinimum, minimise
from sharpbench.symmetry.minimum.matrix_scaling import TOLERANCE, ScaledMatrix, scale_columns, scale_rows_and_columns
from sharpbench.symmetry.minimum.trace import MinimumTrace, as_arrays, balance, diagonal_for, minimum_trace
from sharpbench.symmetry.minimum.units import GRADIENT
from sharpbench.symmetry.random_rewrites import Rewrites, rewrites

__all__ = [
    "GAP",
    "GRADIENT",
    "SCOPES",
    "TOLERANCE",
    "GroupDescription",
    "LayerMinimum",
    "MinimumTrace",
    "RescalingGroup",
    "Rewrites",
    "ScaledMatrix",
    "Scope",
    "as_arrays",
    "balance",
    "describe",
    "diagonal_for",
    "group_of",
    "minimise",
    "minimum_trace",
    "rescaling_group",
    "rewrites",
    "scale_columns",
    "scale_rows_and_columns",
]
