"""The built-in measures, one paper a file; they come in by the same entry point as a third party's."""

from sharpbench_measures.fisher_rao import FisherRao
from sharpbench_measures.ggn_trace import GgnTrace
from sharpbench_measures.minimum import Minimum
from sharpbench_measures.normalized import Normalized
from sharpbench_measures.trace import Trace

MEASURES = (Trace, GgnTrace, FisherRao, Normalized, Minimum)

__all__ = ["MEASURES", "FisherRao", "GgnTrace", "Minimum", "Normalized", "Trace"]
