"""Symmetry: the rescaling group of a network, and minimisation over it."""

from sharpbench.symmetry.balancing import GRADIENT
from sharpbench.symmetry.description import Description, describe
from sharpbench.symmetry.equivalent import as_arrays, balance, diagonal_for
from sharpbench.symmetry.group import SCOPES, RescalingGroup, Scope, group_of, rescaling_group
from sharpbench.symmetry.infimum import Least, least
from sharpbench.symmetry.minimisation import GAP, Minimum, minimise
from sharpbench.symmetry.rewriting import Rewrites, rewrites
from sharpbench.symmetry.scaling import TOLERANCE, Scaled, scale_columns, scale_rows_and_columns

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
