"""Judging: how a measure goes with the truth, by several numbers, their uncertainty, shared ranks; paired means.

Functions of arrays. Nothing here is random but the permutations of `information`, from their seed, and nothing here is
ours: numpy and scipy alone.
"""

from sharpbench.analysis.statistics.granulated import Granulated, granulated
from sharpbench.analysis.statistics.inputs import UNITS_LEAST, Axes
from sharpbench.analysis.statistics.interval import Interval
from sharpbench.analysis.statistics.mutual_information import Information, Null, information
from sharpbench.analysis.statistics.paired import PAIRS_LEAST, Difference, paired_mean
from sharpbench.analysis.statistics.rank_correlation import (
    MARGINAL_LEAST,
    WITHIN_LEAST,
    Tau,
    kendall,
    marginal_tau,
    spearman,
    within_tau,
)
from sharpbench.analysis.statistics.ranking import RankComparison, comparisons, paired_difference, shared_ranks
from sharpbench.analysis.statistics.sign_error import SignError, pair_weights, sign_error

__all__ = [
    "MARGINAL_LEAST",
    "PAIRS_LEAST",
    "UNITS_LEAST",
    "WITHIN_LEAST",
    "Axes",
    "Difference",
    "Granulated",
    "Information",
    "Interval",
    "Null",
    "RankComparison",
    "SignError",
    "Tau",
    "comparisons",
    "granulated",
    "information",
    "kendall",
    "marginal_tau",
    "pair_weights",
    "paired_difference",
    "paired_mean",
    "shared_ranks",
    "sign_error",
    "spearman",
    "within_tau",
]
