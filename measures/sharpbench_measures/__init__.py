"""The built-in measures, one file per paper, found through the same entry point as those of third parties."""

from sharpbench_measures.adaptive import Adaptive
from sharpbench_measures.adaptive_curvature import AdaptiveSpectral, AdaptiveTrace
from sharpbench_measures.asam import AsamSharpness
from sharpbench_measures.average import Average
from sharpbench_measures.baselines import GradientNorm, ParameterCount
from sharpbench_measures.fisher_rao import FisherRao
from sharpbench_measures.fisher_trace import FisherTrace
from sharpbench_measures.geodesic import Geodesic
from sharpbench_measures.ggn_trace import GgnTrace
from sharpbench_measures.hessian_frobenius import HessianFrobenius
from sharpbench_measures.igs import Igs
from sharpbench_measures.keskar import Keskar
from sharpbench_measures.margin import Margin
from sharpbench_measures.minimum import Minimum
from sharpbench_measures.norm_products import FrobeniusProduct, SpectralProduct
from sharpbench_measures.normalized import Normalized
from sharpbench_measures.norms import DistanceFromInitialisation, ParameterNorm
from sharpbench_measures.pac_bayes import PacBayes, PacBayesFlatness
from sharpbench_measures.path_norm import PathNorm
from sharpbench_measures.quotient_norm import QuotientNorm
from sharpbench_measures.relative_flatness import RelativeFlatness
from sharpbench_measures.sam import SamSharpness
from sharpbench_measures.spectral_density import SpectralDensity
from sharpbench_measures.top_eigenvalue import TopEigenvalue
from sharpbench_measures.trace import Trace

MEASURES = (
    Trace,
    GgnTrace,
    FisherRao,
    Normalized,
    Minimum,
    FisherTrace,
    TopEigenvalue,
    HessianFrobenius,
    SpectralDensity,
    AdaptiveSpectral,
    AdaptiveTrace,
    QuotientNorm,
    Igs,
    ParameterNorm,
    DistanceFromInitialisation,
    PathNorm,
    SpectralProduct,
    FrobeniusProduct,
    Margin,
    ParameterCount,
    GradientNorm,
    SamSharpness,
    AsamSharpness,
    Adaptive,
    Geodesic,
    Average,
    Keskar,
    RelativeFlatness,
    PacBayes,
    PacBayesFlatness,
)

__all__ = [
    "MEASURES",
    "Adaptive",
    "AdaptiveSpectral",
    "AdaptiveTrace",
    "AsamSharpness",
    "Average",
    "DistanceFromInitialisation",
    "FisherRao",
    "FisherTrace",
    "FrobeniusProduct",
    "Geodesic",
    "GgnTrace",
    "GradientNorm",
    "HessianFrobenius",
    "Igs",
    "Keskar",
    "Margin",
    "Minimum",
    "Normalized",
    "PacBayes",
    "PacBayesFlatness",
    "ParameterCount",
    "ParameterNorm",
    "PathNorm",
    "QuotientNorm",
    "RelativeFlatness",
    "SamSharpness",
    "SpectralDensity",
    "SpectralProduct",
    "TopEigenvalue",
    "Trace",
]
