"""How well a measure follows the truth: correlations with intervals, ranks, and paired means.

All are functions of arrays and need numpy and scipy only. Nothing is random except the permutations of
`conditional_information`, which depend on a seed.
"""

from sharpbench.analysis.statistics.granulated import Granulated, granulated_tau
from sharpbench.analysis.statistics.inputs import MIN_UNITS, Axes
from sharpbench.analysis.statistics.interval import Interval
from sharpbench.analysis.statistics.mutual_information import Information, Null, conditional_information
from sharpbench.analysis.statistics.paired import MIN_PAIRS, Difference, paired_mean
from sharpbench.analysis.statistics.rank_correlation import (
    MIN_MARGINAL_CELL,
    MIN_WITHIN_CELL,
    Tau,
    kendall_tau,
    marginal_tau,
    within_tau,
)
from sharpbench.analysis.statistics.ranking import (
    RankComparison,
    arrange_lanes,
    compare_measures,
    join_names,
    paired_difference,
    rank_measures,
    shared_ranks,
)
from sharpbench.analysis.statistics.sign_error import SignError, environment_sign_error, pair_weights
from sharpbench.analysis.statistics.spearman import MIN_SPEARMAN_NETWORKS, spearman_correlation

__all__ = [
    "MIN_MARGINAL_CELL",
    "MIN_PAIRS",
    "MIN_SPEARMAN_NETWORKS",
    "MIN_UNITS",
    "MIN_WITHIN_CELL",
    "Axes",
    "Difference",
    "Granulated",
    "Information",
    "Interval",
    "Null",
    "RankComparison",
    "SignError",
    "Tau",
    "arrange_lanes",
    "compare_measures",
    "conditional_information",
    "environment_sign_error",
    "granulated_tau",
    "join_names",
    "kendall_tau",
    "marginal_tau",
    "pair_weights",
    "paired_difference",
    "paired_mean",
    "rank_measures",
    "shared_ranks",
    "spearman_correlation",
    "within_tau",
]
