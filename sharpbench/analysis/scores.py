"""Scores of measures on populations, as a pure function of records."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np

from sharpbench.analysis.correlations import Correlations, Correlator
from sharpbench.analysis.costs import (
    Exactness,
    Failure,
    Timing,
    count_failures,
    count_incomparable,
    largest_factors,
    median_or_none,
    select_timed,
    summarize_exactness,
    summarize_timings,
)
from sharpbench.analysis.population import (
    GAP,
    MeasuredNetwork,
    MeasuredPopulation,
    MeasureRow,
    cell_codes,
    finite_or_none,
    group_populations,
    unknown_outcome,
)
from sharpbench.analysis.row_ranks import Criterion, rank_rows
from sharpbench.analysis.statistics import MIN_UNITS, MIN_WITHIN_CELL, Tau
from sharpbench.analysis.value_errors import ValueErrors, drawn_errors, summarize_value_errors
from sharpbench.core.forked_calls import call_side_by_side, count_workers
from sharpbench.core.native_threads import one_blas_thread
from sharpbench.core.record import Record

BASELINES = ("label noise", "training loss", "parameter norm", "random")
"""Covariates of the networks that any measure should beat; they are shown, never ranked."""


def baseline_values(population: MeasuredPopulation, *, seed: int) -> Mapping[str, dict[str, float]]:
    """Baseline -> key of the network -> value, for the networks that passed the gate and have one.

    The random baseline is uniform. It depends on `seed` and the names of model and data set only, so other populations
    do not change it.
    """
    counted = population.counted
    place = zlib.crc32(f"{population.dataset}\n{population.model}".encode())
    drawn = np.random.default_rng([seed, place]).random(len(counted))
    columns = {name: {network.key: _covariate(name, network) for network in counted} for name in BASELINES[:-1]}
    columns[BASELINES[-1]] = {network.key: float(value) for network, value in zip(counted, drawn, strict=True)}
    return {
        name: {key: value for key, value in column.items() if value is not None} for name, column in columns.items()
    }


def _covariate(name: str, network: MeasuredNetwork) -> float | None:
    if name == "label noise":
        return finite_or_none(network.recipe.get("label_noise"))
    return finite_or_none(network.truth.get("train_loss" if name == "training loss" else "parameter_norm"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One row of a board: a measure, or a baseline, on the networks of one model and data set.

    Args:
        setting: What distinguishes rows of one label (precision, examples, seed); empty where there is only one.
        ok: Networks with a value.
        total: All networks.
        networks: Networks that enter tau: they have a value and passed the gate.
        excluded: Networks that the gate excludes.
        complete: Whether every network that passed the gate has a value.
        correlations: How the values go with the gaps, by every statistic.
        ranked_by: The tau that ranks: within cells of fixed hyperparameters, or marginal, over all networks.
        rank: See `rank_measures`. None for baselines, for incomplete rows and for rows without an interval.
        exclusions: Reason of exclusion -> number of networks.
        invariance: Kind of rewrite -> the largest factor of change; None where the value changed its sign.
        gradients: Median over the timed networks.
        peak_bytes: Median over the timed networks, without those measured in pieces.
        contended: Networks that were timed next to other work or in pieces. Seconds and gradients leave them out,
            unless all were timed next to other work (`only_contended`).
        converged: The share of the values whose iteration converged.
        value_errors: The standard errors of the values over random vectors and over the draw of the examples.
        outcome: The name of the outcome that the measure is judged by.
        detectable: The true difference of two taus that the comparisons of this board would have shown with a
            probability of 80 %, in the median; None for rows without a rank.
    """

    dataset: str
    model: str
    label: str
    setting: str = ""
    kind: Literal["measure", "baseline"]
    ok: int
    total: int
    networks: int
    excluded: int
    complete: bool
    correlations: Correlations
    ranked_by: Criterion
    rank: int | None = None
    exclusions: Mapping[str, int] = field(default_factory=dict)
    invariance: Mapping[str, float | None] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    exactness: Exactness | None = None
    timings: tuple[Timing, ...] = ()
    gradients: float | None = None
    peak_bytes: float | None = None
    contended: int = 0
    converged: float | None = None
    value_errors: ValueErrors | None = None
    outcome: str = GAP
    detectable: float | None = None

    @property
    def only_contended(self) -> bool:
        """Whether seconds and gradients are of calls next to other work, as there are no others."""
        return any(timing.contended for timing in self.timings)

    @property
    def marginal(self) -> Tau:
        """Tau over all networks."""
        return self.correlations.marginal

    @property
    def within(self) -> Tau:
        """The mean over cells of the tau within each cell."""
        return self.correlations.within

    @property
    def name(self) -> str:
        """The label, with the setting where rows of one label differ in it."""
        return f"{self.label} ({self.setting})" if self.setting else self.label

    @property
    def unknown(self) -> int:
        """The networks that fitted and are excluded because their records do not state the outcome."""
        return self.exclusions.get(unknown_outcome(self.outcome), 0)

    @property
    def unfitted(self) -> Mapping[str, int]:
        """`exclusions` of the networks that did not fit."""
        return {reason: count for reason, count in self.exclusions.items() if reason != unknown_outcome(self.outcome)}

    @property
    def partial(self) -> bool:
        """Whether it is a measure without a value on some network that passed the gate; such a row is never ranked."""
        return self.kind == "measure" and not self.complete and self.excluded < self.total


def score_records(records: Sequence[Record], *, seed: int = 0, outcome: str = GAP) -> tuple[Score, ...]:
    """The scores of all measures and baselines, by data set and model; ranked rows first, partial ones last.

    Args:
        seed: For the random baseline. The permutations behind mutual information are the same for all rows.
        outcome: The name of the outcome that measures are judged by.
    """
    populations = group_populations(records, outcome)
    return tuple(row for population in populations for row in score_population(population, seed=seed))


@one_blas_thread()  # the copies use the other cores
def score_population(population: MeasuredPopulation, *, seed: int = 0) -> list[Score]:
    """The scores of one population, in the order of its tables."""
    ranked_by = _choose_criterion(population)
    correlator, columns = Correlator(population), baseline_values(population, seed=seed)
    calls = [
        *(partial(_score_measure, population, row, ranked_by, correlator) for row in population.rows),
        *(partial(_score_baseline, population, name, columns[name], ranked_by, correlator) for name in BASELINES),
    ]
    found = [call() for call in calls[:1]]  # it finds what all share
    found += call_side_by_side(calls[1:], workers=count_workers() if is_large(population) else 1)
    scores, baselines = found[: len(population.rows)], found[len(population.rows) :]
    ranks, detectable = rank_rows(population, [row.complete for row in scores], ranked_by)
    ranked = [
        replace(row, rank=rank, detectable=None if rank is None else detectable)
        for row, rank in zip(scores, ranks, strict=True)
    ]
    return sorted([*ranked, *baselines], key=_order)


MIN_NETWORKS_OF_WORKERS = 300
"""Networks of a population whose rows are scored in several processes; for fewer it takes too little time."""


def is_large(population: MeasuredPopulation) -> bool:
    """Whether work on the rows of a population is divided among processes."""
    return len(population.counted) >= MIN_NETWORKS_OF_WORKERS


def _order(row: Score) -> tuple[bool, int, float, float, str]:
    """Partial rows below the rest; measures by rank and falling tau, then the baselines in their own order."""
    place = BASELINES.index(row.label) if row.kind == "baseline" else -1
    tau = (row.within if row.ranked_by == "within" else row.marginal).value
    rank = float("inf") if row.rank is None else row.rank
    return row.partial, place, rank, 2.0 if tau is None else -tau, row.name


def _choose_criterion(population: MeasuredPopulation) -> Criterion:
    """The tau within cells where the cells allow an interval, because the marginal tau flatters."""
    counted = population.counted
    if population.design == "random":
        sizes = np.bincount(cell_codes(counted)) if counted else np.zeros(0)
        return "within" if int((sizes > 1).sum()) >= MIN_UNITS else "marginal"
    return "within" if counted and int(np.bincount(cell_codes(counted)).min()) >= MIN_WITHIN_CELL else "marginal"


def _score_measure(
    population: MeasuredPopulation, row: MeasureRow, ranked_by: Criterion, correlator: Correlator
) -> Score:
    counted = population.counted
    values = {network.key: value for network in counted if (value := row.value(network)) is not None}
    done = [record for record in row.records.values() if record.status == "ok"]
    return Score(
        dataset=population.dataset,
        model=population.model,
        label=row.label,
        setting=row.setting,
        kind="measure",
        ok=len(done),
        total=len(population.networks),
        networks=len(values),
        excluded=len(population.networks) - len(counted),
        exclusions=population.exclusions,
        complete=0 < len(values) == len(counted),
        correlations=correlator.correlate(values, drawn_errors(row.records)),
        ranked_by=ranked_by,
        failures=count_failures(row.records.values()),
        exactness=summarize_exactness(done),
        invariance=largest_factors(done),
        timings=summarize_timings(done),
        gradients=median_or_none(record.gradients for record in select_timed(done)),
        contended=count_incomparable(done),
        peak_bytes=median_or_none(record.peak_bytes for record in done if record.pieces == 1),
        converged=sum(record.converged for record in done) / len(done) if done else None,
        value_errors=summarize_value_errors(done),
        outcome=population.outcome,
    )


def _score_baseline(
    population: MeasuredPopulation,
    name: str,
    values: Mapping[str, float],
    ranked_by: Criterion,
    correlator: Correlator,
) -> Score:
    counted = len(population.counted)
    return Score(
        dataset=population.dataset,
        model=population.model,
        label=name,
        kind="baseline",
        ok=len(values),
        total=len(population.networks),
        networks=len(values),
        excluded=len(population.networks) - counted,
        exclusions=population.exclusions,
        complete=len(values) == counted,
        correlations=correlator.correlate(values),
        ranked_by=ranked_by,
        outcome=population.outcome,
    )


def scores_json(scores: Sequence[Score]) -> str:
    """The scores as a JSON array: one object per row of each board, and null for what is missing.

    Keys are the fields of `Score`, but `correlations` is called `judgement`: that is the file format.
    """
    rows = [{_JSON_KEYS.get(name, name): value for name, value in asdict(row).items()} for row in scores]
    return json.dumps(rows, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


_JSON_KEYS = {"correlations": "judgement"}
