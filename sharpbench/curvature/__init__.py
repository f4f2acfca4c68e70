"""Curvature: exact traces and diagonals, products, estimators, and the references they are tested against."""

from sharpbench.curvature.ascent import Norm
from sharpbench.curvature.certificate import certificate, unused
from sharpbench.curvature.dense import MATRIX_LIMIT, dense_ggn, dense_hessian
from sharpbench.curvature.differences import difference_diagonal
from sharpbench.curvature.displacement import directions, displaced_loss, displaced_means, finite
from sharpbench.curvature.ellipsoid import Scaling, axes
from sharpbench.curvature.fisher import gradient_traces, sampled_fisher_traces
from sharpbench.curvature.hutchinson import (
    DiagonalEstimate,
    hutchinson_diagonal,
    hutchinson_squared_norm,
    hutchinson_trace,
    squared_norm,
)
from sharpbench.curvature.implicit import Kind, Matrix, flatten, matrix, scaled, unflatten
from sharpbench.curvature.interval import Mean, mean_of
from sharpbench.curvature.interval import check as check_samples
from sharpbench.curvature.lanczos import (
    Eigenspace,
    Eigenvalues,
    leading_eigenspace,
    leading_eigenvalue,
    top_eigenvalues,
)
from sharpbench.curvature.linear import LinearLayer, linear_layer
from sharpbench.curvature.neighbourhood import check_worst_case, reference_one_step, worst_case
from sharpbench.curvature.output import output_root
from sharpbench.curvature.paths import Affine, chain, path_sum
from sharpbench.curvature.per_example import per_example_traces
from sharpbench.curvature.products import ggnvp, hvp
from sharpbench.curvature.projection import hutchpp_squared_norm, hutchpp_trace, xtrace
from sharpbench.curvature.pullback import exact_diagonal, exact_traces, predicted_bytes
from sharpbench.curvature.quadrature import Density, spectral_density
from sharpbench.curvature.reference import (
    DENSE_LIMIT,
    reference_diagonal,
    reference_eigenvalue,
    reference_ggn_traces,
    reference_traces,
)
from sharpbench.curvature.residual import residual_forms, trace_estimate, weighted_traces
from sharpbench.curvature.sketch import sketched_diagonal, sketched_traces
from sharpbench.curvature.tolerance import Tolerance, tolerated_noise

__all__ = [
    "DENSE_LIMIT",
    "MATRIX_LIMIT",
    "Affine",
    "Density",
    "DiagonalEstimate",
    "Eigenspace",
    "Eigenvalues",
    "Kind",
    "LinearLayer",
    "Matrix",
    "Mean",
    "Norm",
    "Scaling",
    "Tolerance",
    "axes",
    "certificate",
    "chain",
    "check_samples",
    "check_worst_case",
    "dense_ggn",
    "dense_hessian",
    "difference_diagonal",
    "directions",
    "displaced_loss",
    "displaced_means",
    "exact_diagonal",
    "exact_traces",
    "finite",
    "flatten",
    "ggnvp",
    "gradient_traces",
    "hutchinson_diagonal",
    "hutchinson_squared_norm",
    "hutchinson_trace",
    "hutchpp_squared_norm",
    "hutchpp_trace",
    "hvp",
    "leading_eigenspace",
    "leading_eigenvalue",
    "linear_layer",
    "matrix",
    "mean_of",
    "output_root",
    "path_sum",
    "per_example_traces",
    "predicted_bytes",
    "reference_diagonal",
    "reference_eigenvalue",
    "reference_ggn_traces",
    "reference_one_step",
    "reference_traces",
    "residual_forms",
    "sampled_fisher_traces",
    "scaled",
    "sketched_diagonal",
    "sketched_traces",
    "spectral_density",
    "squared_norm",
    "tolerated_noise",
    "top_eigenvalues",
    "trace_estimate",
    "unflatten",
    "unused",
    "weighted_traces",
    "worst_case",
    "xtrace",
]
