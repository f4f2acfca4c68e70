"""Rescalings, permutations and rotations of the weights that keep a network's function, and minimisation over them.

The examples below use a network of two layers and the ReLU between them. Its group of layers has dimension 1: the first
weight times exp(s), the second times exp(-s).

>>> import numpy as np
>>> import torch
>>> from sharpbench import Subject, symmetry
>>> draws = torch.Generator().manual_seed(0)
>>> model = torch.nn.Sequential(torch.nn.Linear(3, 4, bias=False), torch.nn.ReLU(), torch.nn.Linear(4, 2, bias=False))
>>> model = model.double()
>>> inputs = torch.randn(5, 3, dtype=torch.float64, generator=draws)
>>> targets = torch.tensor([0, 1, 0, 1, 1])
"""

from sharpbench.symmetry.describe import GroupDescription, describe, describe_full
from sharpbench.symmetry.float64_check import Float64Check, relative_change, rounding_bound
from sharpbench.symmetry.full_group import FullGroup, full_group, full_group_of
from sharpbench.symmetry.geodesics import Geodesics, Metric
from sharpbench.symmetry.group import SCOPES, RescalingGroup, Scope, group_of, rescaling_group
from sharpbench.symmetry.linear_blocks import LinearBlock
from sharpbench.symmetry.minimum.balance import balance, balanced_params
from sharpbench.symmetry.minimum.full import FullMinimum, minimise_full
from sharpbench.symmetry.minimum.layers import GAP_TOLERANCE, LayerMinimum, minimise
from sharpbench.symmetry.minimum.matrix_scaling import (
    SCALING_TOLERANCE,
    ScaledMatrix,
    scale_columns,
    scale_rows_and_columns,
)
from sharpbench.symmetry.minimum.trace import (
    MinimumTrace,
    as_arrays,
    diagonal_for,
    minimum_example_stderr,
    minimum_trace,
)
from sharpbench.symmetry.minimum.units import GRADIENT_TOLERANCE
from sharpbench.symmetry.random_rewrites import Rewrites, find_rewrites

__all__ = [
    "GAP_TOLERANCE",
    "GRADIENT_TOLERANCE",
    "SCALING_TOLERANCE",
    "SCOPES",
    "Float64Check",
    "FullGroup",
    "FullMinimum",
    "Geodesics",
    "GroupDescription",
    "LayerMinimum",
    "LinearBlock",
    "Metric",
    "MinimumTrace",
    "RescalingGroup",
    "Rewrites",
    "ScaledMatrix",
    "Scope",
    "as_arrays",
    "balance",
    "balanced_params",
    "describe",
    "describe_full",
    "diagonal_for",
    "find_rewrites",
    "full_group",
    "full_group_of",
    "group_of",
    "minimise",
    "minimise_full",
    "minimum_example_stderr",
    "minimum_trace",
    "relative_change",
    "rescaling_group",
    "rounding_bound",
    "scale_columns",
    "scale_rows_and_columns",
]
