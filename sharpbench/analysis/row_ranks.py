"""Ranks of the measures of a population, and which pairs of them the comparisons behind the ranks tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sharpbench.analysis.correlations import resampling_units
from sharpbench.analysis.population import MeasuredPopulation, MeasureRow, cell_codes
from sharpbench.analysis.statistics import compare_measures, kendall_tau, rank_measures
from sharpbench.analysis.statistics.jackknife import Floats, Integers
from sharpbench.analysis.statistics.rank_correlation import within_value
from sharpbench.analysis.statistics.value_noise import noise_variance
from sharpbench.analysis.value_errors import drawn_errors

Criterion = Literal["within", "marginal"]
"""The tau that ranks: within cells of fixed hyperparameters, or over all networks."""


@dataclass(frozen=True, slots=True, eq=False)
class _RankedRows:
    """What the ranks of the complete rows are found from; all have values on the same networks.

    Args:
        noise: A further variance of each tau, from the errors of the values.
    """

    values: list[list[float]]
    gaps: list[float]
    codes: Integers
    together: Integers | None
    within: bool
    noise: list[float]

    @staticmethod
    def of(population: MeasuredPopulation, rows: Sequence[MeasureRow], ranked_by: Criterion) -> _RankedRows:
        counted = population.counted
        values = [[row.value(network) or 0.0 for network in counted] for row in rows]
        gaps = [network.outcome or 0.0 for network in counted]
        codes, together = cell_codes(counted), resampling_units(population, counted)

        def rank_of(x: Floats) -> float | None:
            y = np.array(gaps)
            return within_value(x, y, codes) if ranked_by == "within" else kendall_tau(x, y)

        noise = []
        for row, column in zip(rows, values, strict=True):
            errors = drawn_errors(row.records)
            known = np.array([errors.get(network.key, 0.0) for network in counted])
            noise.append(noise_variance(rank_of, np.array(column), known) if known.any() else 0.0)
        return _RankedRows(values, gaps, codes, together, ranked_by == "within", noise)


def rank_rows(
    population: MeasuredPopulation, complete: Sequence[bool], ranked_by: Criterion
) -> tuple[list[int | None], float | None]:
    """A rank for each complete row, and the difference that could have been shown (see Ranking)."""
    rows = [row for row, chosen in zip(population.rows, complete, strict=True) if chosen]
    found = _RankedRows.of(population, rows, ranked_by)
    ranking = rank_measures(
        found.values, found.gaps, found.codes, found.together, within=found.within, noise=found.noise
    )
    ranks = iter(ranking.ranks)
    return [next(ranks) if chosen else None for chosen in complete], ranking.detectable


def find_told_apart(
    population: MeasuredPopulation, names: Mapping[tuple[str, str], str], ranked_by: Criterion
) -> frozenset[frozenset[str]]:
    """The pairs of names of ranked rows that the comparisons behind the ranks tell apart.

    Args:
        names: Label and setting of each ranked row -> its name.
    """
    rows = [row for row in population.rows if (row.label, row.setting) in names]
    found = _RankedRows.of(population, rows, ranked_by)
    compared = compare_measures(
        found.values, found.gaps, found.codes, found.together, within=found.within, noise=found.noise
    )
    shown = [names[row.label, row.setting] for row in rows]
    return frozenset(frozenset((shown[each.one], shown[each.other])) for each in compared if each.better is not None)
