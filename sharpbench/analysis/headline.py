"""The headline score of each measure: its mean Psi over populations and outcomes, with an interval and a rank.

docs/protocol.md (Headline score) defines it and says why it is so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal

import numpy as np

from sharpbench.analysis.correlations import varied_hyperparameters
from sharpbench.analysis.population import (
    GAP,
    LOSS_GAP,
    MeasuredNetwork,
    MeasuredPopulation,
    MeasureRow,
    round_outcomes,
)
from sharpbench.analysis.scores import baseline_values
from sharpbench.analysis.statistics import MIN_MARGINAL_CELL, Tau, granulated_tau
from sharpbench.analysis.statistics.inputs import is_constant
from sharpbench.analysis.statistics.jackknife import Floats
from sharpbench.analysis.statistics.mean_psi import OutcomePairs, average_populations, interval_of
from sharpbench.analysis.statistics.ranking import Ranking, join_names, rank_estimates
from sharpbench.analysis.statistics.value_noise import draw_values, noise_variance, widen_tau
from sharpbench.analysis.value_errors import drawn_errors
from sharpbench.core.fields import Scalar

NO_POPULATION = "no population enters: each has a varying label noise or no Psi"
LABEL_NOISE = "label_noise"
MIN_SHARE_OF_MEASURES = Fraction(2, 3)
"""Of the measures of the population with the most, how many a population needs to enter."""


def judge_by(population: MeasuredPopulation, outcome: str) -> MeasuredPopulation:
    """The same networks and values, judged by another outcome; each outcome is taken from the records that state it."""
    stated: dict[str, dict[str, float | None]] = {}
    for row in population.rows:
        for key, record in row.records.items():
            stated.setdefault(key, {}).update(record.outcomes)
    networks = (
        replace(each, judged_by=outcome, outcomes=round_outcomes(stated.get(each.key, {})))
        for each in population.networks
    )
    return replace(population, networks=tuple(networks), outcome=outcome)


def outcome_family(name: str) -> str:
    """The family of an outcome: the word before its first hyphen, such as 'quantised'.

    >>> outcome_family("quantised-4")
    'quantised'
    """
    return name.partition("-")[0]


@dataclass(frozen=True, eq=False)
class JudgedPopulation:
    """The networks of a population that the headline compares, and the outcomes that they are judged by.

    Args:
        networks: Those that passed the gate, of configurations that have an interval.
        outcomes: Name -> the outcome of each network; those that the records of all these networks state, and in which
            two networks that differ in one hyperparameter differ.
        left_out: Networks that passed the gate, in configurations of fewer than three.
    """

    population: MeasuredPopulation
    networks: tuple[MeasuredNetwork, ...]
    outcomes: Mapping[str, Floats]
    left_out: int

    @staticmethod
    def of(population: MeasuredPopulation) -> JudgedPopulation:
        """The networks and outcomes of `population` that the headline compares; there may be none."""
        counted = population.counted
        sizes = Counter(network.cell for network in counted)
        chosen = [network.key for network in counted if sizes[network.cell] >= MIN_MARGINAL_CELL]
        stated = {name for row in population.rows for record in row.records.values() for name in record.outcomes}
        networks: tuple[MeasuredNetwork, ...] = ()
        found = {}
        for name in (GAP, LOSS_GAP, *sorted(stated - {GAP, LOSS_GAP})):
            judged = {network.key: network for network in judge_by(population, name).networks}
            networks = tuple(judged[key] for key in chosen)
            values = [network.outcome for network in networks]
            if chosen and None not in values:
                found[name] = np.array(values, dtype=np.float64)
        axes = varied_hyperparameters(networks)
        if found:
            defined = OutcomePairs(list(found.values()), [1.0] * len(found), axes).defined
            found = {name: each for (name, each), known in zip(found.items(), defined, strict=True) if known}
        return JudgedPopulation(population, networks, found, len(counted) - len(chosen))

    @cached_property
    def axes(self) -> Mapping[str, Sequence[Scalar]]:
        """The hyperparameters of the networks."""
        return varied_hyperparameters(self.networks)

    @property
    def measured(self) -> frozenset[str]:
        """The labels of the measures that have a value on some of its networks."""
        rows = self.population.rows
        return frozenset(row.label for row in rows if any(row.value(each) is not None for each in self.networks))

    @property
    def varies_noise(self) -> bool:
        """Whether its networks differ in label noise, which nobody chooses."""
        return len(set(self.axes.get(LABEL_NOISE, ()))) > 1

    @cached_property
    def shares(self) -> Mapping[str, float]:
        """The weight of each outcome: equal for all families, and for all outcomes of a family."""
        sizes = Counter(map(outcome_family, self.outcomes))
        return {name: 1 / (len(sizes) * sizes[outcome_family(name)]) for name in self.outcomes}

    @cached_property
    def pairs(self) -> OutcomePairs:
        """The pairs of networks that differ in one hyperparameter."""
        return OutcomePairs(list(self.outcomes.values()), list(self.shares.values()), self.axes)

    def columns(self, seed: int, measures: Collection[str]) -> Iterator[_Column]:
        """The values of each measure and baseline; or the reason why it has no score here.

        measures: the names of those of all populations, which no baseline may have.
        """
        for row in self.population.rows:
            values = [row.value(network) for network in self.networks]
            yield _Column.of(_name_of(row), "measure", values, self._errors(row))
        for name, known in baseline_values(self.population, seed=seed).items():
            values = [known.get(network.key) for network in self.networks]
            shown = f"{name} (baseline)" if name in measures else name
            yield _Column.of(shown, "baseline", values, np.zeros(len(values)))

    def _errors(self, row: MeasureRow) -> Floats:
        errors = drawn_errors(row.records)
        return np.array([errors.get(network.key, 0.0) for network in self.networks])


def _name_of(row: MeasureRow) -> str:
    return f"{row.label} ({row.setting})" if row.setting else row.label


@dataclass(frozen=True, slots=True, eq=False)
class _Column:
    """A measure or baseline on one population: its values, or the reason why they do not count."""

    name: str
    kind: Literal["measure", "baseline"]
    values: Floats | None
    errors: Floats
    reason: str | None

    @staticmethod
    def of(name: str, kind: Literal["measure", "baseline"], values: Sequence[float | None], errors: Floats) -> _Column:
        missing = sum(value is None for value in values)
        if missing:
            return _Column(name, kind, None, errors, "no value for some networks")
        found = np.array(values, dtype=np.float64)
        if is_constant(found):
            return _Column(name, kind, None, errors, "the same value for all networks")
        return _Column(name, kind, found, errors, None)

    def noise(self, pairs: OutcomePairs) -> float:
        """The variance of the score from the errors of the values."""
        if self.values is None or not self.errors.any():
            return 0.0
        return noise_variance(pairs.value, self.values, self.errors)

    def noise_by_outcome(self, pairs: OutcomePairs) -> Floats:
        """[O] The variance of the Psi with each outcome from the errors of the values."""
        if self.values is None or not self.errors.any():
            return np.zeros(pairs.outcomes)
        drawn = [pairs.by_outcome(values) for values in draw_values(self.values, self.errors)]
        found: Floats = np.var(drawn, axis=0, ddof=1)
        return found


@dataclass(frozen=True, slots=True)
class HeadlineScore:
    """The score of one measure or baseline.

    Args:
        name: As in the boards.
        tau: The score; where it has none, the reason. `cells` is the number of populations that enter.
        rank: 1 + the number of significantly higher scores, never better than that of a higher score.
        parts: Index of the population and name of the outcome -> Psi there.
    """

    name: str
    kind: Literal["measure", "baseline"]
    tau: Tau
    rank: int | None = None
    parts: Mapping[tuple[int, str], Tau] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Headline:
    """All scores, the highest first and those without one last, and the populations.

    Args:
        titles: Of all populations.
        populations: The index, in `titles`, of each population that has a Psi -> what is compared of it.
        entering: The indices of the populations that the scores are means over.
        apart: The pairs of names whose scores differ significantly, from the comparisons behind the ranks.
    """

    scores: tuple[HeadlineScore, ...]
    titles: tuple[str, ...]
    populations: Mapping[int, JudgedPopulation]
    entering: tuple[int, ...]
    apart: frozenset[frozenset[str]]

    @cached_property
    def known(self) -> tuple[HeadlineScore, ...]:
        """The scores that exist, the highest first."""
        return tuple(score for score in self.scores if score.tau.value is not None)

    @cached_property
    def joined(self) -> tuple[tuple[int, int], ...]:
        """The first and last place, among those that exist, of each longest run of scores that are not told apart."""
        return join_names([score.name for score in self.known], self.apart)


def score_headline(populations: Sequence[MeasuredPopulation], titles: Sequence[str], *, seed: int = 0) -> Headline:
    """The headline scores of all measures and baselines of `populations`.

    A measure has a score if every population that enters has its value for every network compared. Costs measures times
    networks^2 operations for each population, and measures times outcomes those of a Psi.

    Args:
        titles: How reasons call the populations.
        seed: For the random baseline.
    """
    judged = {index: JudgedPopulation.of(population) for index, population in enumerate(populations)}
    judged = {index: each for index, each in judged.items() if each.outcomes}
    measures = {_name_of(row) for one in judged.values() for row in one.population.rows}
    columns = {index: {each.name: each for each in one.columns(seed, measures)} for index, one in judged.items()}
    kinds = {each.name: each.kind for found in columns.values() for each in found.values()}
    entering = {index: judged[index] for index in _entering(judged)}
    reasons = {name: _explain(name, {index: columns[index] for index in entering}, titles) for name in kinds}
    complete = [name for name, reason in reasons.items() if reason is None and not _is_shown_twice(name, kinds)]
    taus, ranking = _estimate(complete, entering, columns)
    ranks = dict(zip(complete, ranking.ranks, strict=True))
    scores = [
        HeadlineScore(
            name,
            kind,
            taus.get(name) or Tau(None, None, reasons[name], 0, len(entering)),
            ranks.get(name),
            {
                (index, outcome): tau
                for index, one in judged.items()
                if name in columns[index]
                for outcome, tau in _parts(one, columns[index][name])
            },
        )
        for name, kind in kinds.items()
        if not _is_shown_twice(name, kinds)
    ]
    apart = frozenset(frozenset(complete[number] for number in pair) for pair in ranking.apart)
    return Headline(tuple(sorted(scores, key=_order)), tuple(titles), judged, tuple(entering), apart)


def _entering(judged: Mapping[int, JudgedPopulation]) -> list[int]:
    """The populations without varying label noise on which most of the measures have a value."""
    measures = {index: len(one.measured) for index, one in judged.items() if not one.varies_noise}
    most = max(measures.values(), default=0)
    return [index for index, count in measures.items() if count >= MIN_SHARE_OF_MEASURES * most]


def _is_shown_twice(name: str, kinds: Mapping[str, str]) -> bool:
    """Whether a baseline is also a measure, such as the parameter norm."""
    return kinds[name] == "baseline" and kinds.get(name.replace(" ", "-")) == "measure"


def _order(score: HeadlineScore) -> tuple[float, str]:
    return 2.0 if score.tau.value is None else -score.tau.value, score.name


def _explain(name: str, columns: Mapping[int, Mapping[str, _Column]], titles: Sequence[str]) -> str | None:
    """Why the measure has no score; None where it has one."""
    if not columns:
        return NO_POPULATION
    found: dict[str, list[str]] = {}
    for index, known in columns.items():
        reason = known[name].reason if name in known else "not measured"
        if reason is not None:
            found.setdefault(reason, []).append(titles[index])
    return "; ".join(f"{reason} on {_place(where, len(columns))}" for reason, where in found.items()) or None


def _place(where: Sequence[str], populations: int) -> str:
    return where[0] if len(where) == 1 else f"{len(where)} of {populations} populations"


def _estimate(
    names: Sequence[str],
    entering: Mapping[int, JudgedPopulation],
    columns: Mapping[int, Mapping[str, _Column]],
) -> tuple[dict[str, Tau], Ranking]:
    """The score of each name, which has values on all populations, and their ranks."""
    if not names or not entering:
        return {}, Ranking((None,) * len(names), None, frozenset())
    found = []
    for index, one in entering.items():
        here = [columns[index][name] for name in names]
        values = [each.values for each in here if each.values is not None]
        found.append(one.pairs.estimate(values, [each.noise(one.pairs) for each in here]))
    average = average_populations(found)
    networks = sum(len(one.networks) for one in entering.values())
    taus = {
        name: Tau(float(value), interval_of(average, number), None, networks, len(entering))
        for number, (name, value) in enumerate(zip(names, average.values, strict=True))
    }
    return taus, rank_estimates(average, range(len(names)), len(names))


def _parts(one: JudgedPopulation, column: _Column) -> Iterator[tuple[str, Tau]]:
    """Psi of one measure with each outcome of a population."""
    variances = column.noise_by_outcome(one.pairs)
    for (name, outcome), variance in zip(one.outcomes.items(), variances, strict=True):
        if column.values is None:
            yield name, Tau(None, None, column.reason, len(one.networks), 0)
        else:
            yield name, widen_tau(granulated_tau(column.values, outcome, one.axes).overall, float(variance))
