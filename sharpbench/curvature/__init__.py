"""Curvature: exact traces and diagonals, products, estimators, and the references they are tested against."""

from sharpbench.curvature.certificate import certificate
from sharpbench.curvature.hutchinson import hutchinson_trace, residual_traces
from sharpbench.curvature.products import ggnvp, hvp
from sharpbench.curvature.pullback import exact_diagonal, exact_traces
from sharpbench.curvature.reference import DENSE_LIMIT, reference_diagonal, reference_traces

__all__ = [
    "DENSE_LIMIT",
    "certificate",
    "exact_diagonal",
    "exact_traces",
    "ggnvp",
    "hutchinson_trace",
    "hvp",
    "reference_diagonal",
    "reference_traces",
    "residual_traces",
]
