"""Curvature of a Subject: exact traces and diagonals, matrix-free products, estimators, and slow references.

The Hessian H is that of the mean loss over all n examples, the Gauss-Newton matrix is G = (1/n) sum_i J_i^T Lambda_i
J_i with the Jacobian J_i [C, P] of the logits and the loss Hessian Lambda_i [C, C] by the logits. P counts the measured
parameters, in the order of `subject.params`. Costs are in gradients: one forward and backward pass over all examples.

The examples below use this subject. At weights of 0 both classes have probability 1/2, so H = G has one eigenvalue
other than 0: (1/2) (1 + |x|^2) = 5, of which the bias has 1/2.

>>> import torch
>>> from sharpbench import Subject, curvature
>>> model = torch.nn.Linear(3, 2, dtype=torch.float64)
>>> zeros = torch.nn.init.zeros_(model.weight), torch.nn.init.zeros_(model.bias)
>>> inputs = torch.tensor([[1.0, 2.0, 2.0]], dtype=torch.float64)
>>> subject = Subject.from_module(model, inputs, torch.tensor([0]))
"""

from sharpbench.curvature.certificate import certificate, unused_parameters
from sharpbench.curvature.confidence import MeanEstimate, check_precision, example_stderr, mean_of
from sharpbench.curvature.confidence import check_budget as check_samples
from sharpbench.curvature.derivative_methods import DerivativeMethod
from sharpbench.curvature.eigenpairs import MAX_EIGENPAIRS, Eigenpairs, find_eigenpairs
from sharpbench.curvature.finite_differences import difference_diagonal
from sharpbench.curvature.first_derivatives import gradient_method
from sharpbench.curvature.fisher import (
    FisherDraws,
    draw_fisher_traces,
    draws_targets,
    gradient_traces,
    gradient_traces_by_example,
    sampled_fisher_traces,
)
from sharpbench.curvature.followed_eigenvalue import (
    COLD_STARTS_EVERY,
    FollowedEigenvalue,
    follow_eigenvalue,
)
from sharpbench.curvature.ggn import (
    count_columns,
    exact_diagonal,
    exact_traces,
    mean_estimate,
    mean_traces,
    predicted_bytes,
    traces_by_example,
    weighted_traces_by_example,
)
from sharpbench.curvature.ggn_precision import MAX_EXACT_COLUMNS, ggn_trace_estimate, has_many_columns
from sharpbench.curvature.ggn_sketch import has_sketch, sketched_diagonal, sketched_traces
from sharpbench.curvature.hessian_trace import (
    BUDGET,
    PRECISION,
    adaptive_traces_by_example,
    hessian_diagonal,
    trace_estimate,
    weighted_traces,
)
from sharpbench.curvature.lanczos import (
    Eigenspace,
    Eigenvalues,
    check_lanczos,
    leading_eigenspace,
    leading_eigenvalue,
    top_eigenvalues,
)
from sharpbench.curvature.linear_layer import LinearLayer, linear_layer
from sharpbench.curvature.noise_tolerance import NoiseTolerance, tolerated_noise
from sharpbench.curvature.output_hessian import output_root, quadratic_form, softmax_slopes, softmax_variance
from sharpbench.curvature.partial_traces import Section, partial_traces, reference_partial_traces
from sharpbench.curvature.path_norm import AffineLayer, chain, input_ones, path_sum
from sharpbench.curvature.per_example import per_example_traces
from sharpbench.curvature.perturbation import (
    PerturbedLosses,
    Scaling,
    displaced_losses,
    draw_directions,
    perturbation_scales,
    perturbed_loss,
    perturbed_losses,
    perturbed_means,
    require_finite,
)
from sharpbench.curvature.plain import plain_gradient, plain_vjps
from sharpbench.curvature.products import (
    Kind,
    LinearOperator,
    flatten,
    ggnvp,
    held_operator,
    hvp,
    jvp,
    linear_operator,
    map_vectors,
    scaled_operator,
    unflatten,
)
from sharpbench.curvature.reference import (
    DENSE_LIMIT,
    MATRIX_LIMIT,
    dense_ggn,
    dense_hessian,
    reference_diagonal,
    reference_eigenvalue,
    reference_example_stderr,
    reference_ggn_traces,
    reference_traces,
)
from sharpbench.curvature.spectral_density import EigenvalueDensity, spectral_density
from sharpbench.curvature.spectrum import smooth_density
from sharpbench.curvature.trace_estimators import (
    DiagonalEstimate,
    hutchinson_diagonal,
    hutchinson_squared_norm,
    hutchinson_trace,
    hutchpp_squared_norm,
    hutchpp_trace,
    squared_norm,
    xtrace,
)
from sharpbench.curvature.worst_case import Norm, check_worst_case, largest_rise, reference_one_step, worst_case

__all__ = [
    "BUDGET",
    "COLD_STARTS_EVERY",
    "DENSE_LIMIT",
    "MATRIX_LIMIT",
    "MAX_EIGENPAIRS",
    "MAX_EXACT_COLUMNS",
    "PRECISION",
    "AffineLayer",
    "DerivativeMethod",
    "DiagonalEstimate",
    "Eigenpairs",
    "Eigenspace",
    "EigenvalueDensity",
    "Eigenvalues",
    "FisherDraws",
    "FollowedEigenvalue",
    "Kind",
    "LinearLayer",
    "LinearOperator",
    "MeanEstimate",
    "NoiseTolerance",
    "Norm",
    "PerturbedLosses",
    "Scaling",
    "Section",
    "adaptive_traces_by_example",
    "certificate",
    "chain",
    "check_lanczos",
    "check_precision",
    "check_samples",
    "check_worst_case",
    "count_columns",
    "dense_ggn",
    "dense_hessian",
    "difference_diagonal",
    "displaced_losses",
    "draw_directions",
    "draw_fisher_traces",
    "draws_targets",
    "exact_diagonal",
    "exact_traces",
    "example_stderr",
    "find_eigenpairs",
    "flatten",
    "follow_eigenvalue",
    "ggn_trace_estimate",
    "ggnvp",
    "gradient_method",
    "gradient_traces",
    "gradient_traces_by_example",
    "has_many_columns",
    "has_sketch",
    "held_operator",
    "hessian_diagonal",
    "hutchinson_diagonal",
    "hutchinson_squared_norm",
    "hutchinson_trace",
    "hutchpp_squared_norm",
    "hutchpp_trace",
    "hvp",
    "input_ones",
    "jvp",
    "largest_rise",
    "leading_eigenspace",
    "leading_eigenvalue",
    "linear_layer",
    "linear_operator",
    "map_vectors",
    "mean_estimate",
    "mean_of",
    "mean_traces",
    "output_root",
    "partial_traces",
    "path_sum",
    "per_example_traces",
    "perturbation_scales",
    "perturbed_loss",
    "perturbed_losses",
    "perturbed_means",
    "plain_gradient",
    "plain_vjps",
    "predicted_bytes",
    "quadratic_form",
    "reference_diagonal",
    "reference_eigenvalue",
    "reference_example_stderr",
    "reference_ggn_traces",
    "reference_one_step",
    "reference_partial_traces",
    "reference_traces",
    "require_finite",
    "sampled_fisher_traces",
    "scaled_operator",
    "sketched_diagonal",
    "sketched_traces",
    "smooth_density",
    "softmax_slopes",
    "softmax_variance",
    "spectral_density",
    "squared_norm",
    "tolerated_noise",
    "top_eigenvalues",
    "trace_estimate",
    "traces_by_example",
    "unflatten",
    "unused_parameters",
    "weighted_traces",
    "weighted_traces_by_example",
    "worst_case",
    "xtrace",
]
