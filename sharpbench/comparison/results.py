"""Results of a comparison: the rows of each contestant summarized, network by network."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from sharpbench.analysis.statistics.interval import LEVEL
from sharpbench.comparison.measurement import GRADIENT, ORACLE, Measurement, last_measurements
from sharpbench.core.fields import Scalar

MIN_PAIRS = 6
"""With fewer pairs a median has no 95 % interval: even the range of 5 values covers it less often."""
TARGET_ERROR = 0.01
"""The relative error for which the times of contestants are compared."""
MIN_DRAWS = 3
"""With fewer draws, their mean is not tested for bias."""
BIAS_TEST_LEVEL = 0.01
"""The probability of calling an unbiased mean biased."""
BUILT_IN_PACKAGE = "sharpbench_measures"
"""The package of the built-in measures, to whose seconds those of the others are set in proportion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContestantResult:
    """The result of one contestant on one network.

    Args:
        name: the spec of the measure, or "gradient".
        package: the package that it comes from.
        seconds: the median over its rounds, without contended rounds unless all are contended.
        timed: the seconds by round whose median that is.
        spread: the largest of those seconds minus the smallest, over the median.
        rounds: the number of rounds.
        contended: the number of contended rounds.
        stochastic: whether its value depends on random numbers.
        averages: whether, as far as the rounds show, the mean of repetitions approaches the reference. That of an
            eigenvalue's iterations does not.
        error: the relative error; for a stochastic contestant the root mean square over its rounds.
        negative: the largest number of negative entries of its diagonal in a round.
        batch: its batch size.
        peak_bytes: the largest growth of the peak memory.
    """

    name: str
    package: str
    seconds: float
    timed: Mapping[int, float]
    spread: float
    rounds: int
    contended: int
    stochastic: bool
    averages: bool
    error: float | None
    negative: int | None
    batch: int | None
    peak_bytes: int | None

    @property
    def built_in(self) -> bool:
        """Whether it is a built-in measure."""
        return self.package == BUILT_IN_PACKAGE

    @property
    def exact(self) -> bool:
        """Whether it is deterministic and has at most the target error."""
        return not self.stochastic and self.error is not None and self.error <= TARGET_ERROR

    @property
    def few_draws(self) -> bool:
        """Whether its error comes from too few draws to be reliable."""
        return self.stochastic and self.rounds < MIN_PAIRS

    @property
    def extrapolated(self) -> bool:
        """Whether `seconds_to_target` assumes repetitions that were not made."""
        return self.stochastic and self.averages and self.error is not None and self.error > TARGET_ERROR

    @property
    def seconds_to_target(self) -> float | None:
        """Seconds to the target error; None if it never reaches it.

        A contestant with a larger error that is stochastic and unbiased needs as many repetitions as bring the error
        of their mean to the target.
        """
        if self.error is None or (self.error > TARGET_ERROR and not self.extrapolated):
            return None
        return self.seconds * max(1.0, (self.error / TARGET_ERROR) ** 2)


@dataclass(frozen=True, slots=True)
class TimeRatio:
    """The seconds of one contestant over those of another; the 95 % interval is None with too few rounds."""

    value: float
    interval: tuple[float, float] | None


def paired_ratio(result: ContestantResult, unit: ContestantResult) -> TimeRatio:
    """The factor by which `result` takes longer than `unit`.

    The median over the rounds of the ratio within a round, with its interval by order statistics (scipy's
    quantile_test). With fewer than MIN_PAIRS rounds in common, the ratio of the two medians, without an interval.
    """
    pairs = [seconds / unit.timed[number] for number, seconds in result.timed.items() if number in unit.timed]
    if len(pairs) < MIN_PAIRS:
        return TimeRatio(result.seconds / unit.seconds, None)
    interval: Any = stats.quantile_test(pairs, p=0.5).confidence_interval(LEVEL)
    return TimeRatio(statistics.median(pairs), (float(interval.low), float(interval.high)))


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkResult:
    """The results on one network.

    Args:
        match: content hash of everything that the rows have in common.
        network: the model as it is written on the command line.
        quantity: the quantity that is compared.
        settings: settings of the comparison and facts about the network.
        environments: the environments of the successful rows.
        libraries: versions of the libraries that contestants imported.
        oracle: the row of the oracle, if there is one.
        gradient: the result of the gradient, whose seconds are the unit.
        results: the contestants with a value: deterministic before stochastic, each by seconds.
        failures: (contestant, status, reason) of those without a value.
    """

    match: str
    network: str
    quantity: str
    settings: Mapping[str, Scalar]
    environments: tuple[Mapping[str, Scalar], ...]
    libraries: Mapping[str, Scalar]
    oracle: Measurement | None
    gradient: ContestantResult | None
    results: tuple[ContestantResult, ...]
    failures: tuple[tuple[str, str, str], ...]


def network_results(rows: Iterable[Measurement]) -> list[NetworkResult]:
    """One result per network, in the order of their first rows."""
    by_match: dict[str, list[Measurement]] = {}
    for row in rows:
        by_match.setdefault(row.match, []).append(row)
    return [_summarize_network(group) for group in by_match.values()]


def _summarize_network(rows: Sequence[Measurement]) -> NetworkResult:
    by_name: dict[str, list[Measurement]] = {}
    for row in rows:
        by_name.setdefault(row.contestant, []).append(row)
    oracle = [row for row in rows if row.role == ORACLE]
    by_name.pop(ORACLE, None)
    truth = oracle[-1].value if oracle else None
    latest = {name: last_measurements(group) for name, group in by_name.items()}
    failed = {name: next((row for row in group if row.status != "ok"), None) for name, group in latest.items()}
    results = [
        _summarize_contestant(group, truth)
        for name, group in latest.items()
        if not failed[name] and any(row.round for row in group)
    ]
    first = rows[0]
    measured = [row.environment for row in rows if row.role != ORACLE and row.status == "ok"]
    environments = {tuple(sorted(environment.items(), key=str)): environment for environment in measured}
    libraries = {name: version for row in rows for name, version in row.libraries.items()}
    return NetworkResult(
        match=first.match,
        network=first.network,
        quantity=first.quantity,
        settings=first.settings,
        environments=tuple(environments.values()),
        libraries=dict(sorted(libraries.items())),
        oracle=oracle[-1] if oracle else None,
        gradient=next((result for result in results if result.name == GRADIENT), None),
        results=tuple(sorted((result for result in results if result.name != GRADIENT), key=_sort_key)),
        failures=tuple((name, row.status, str(row.reason)) for name, row in failed.items() if row is not None),
    )


def _sort_key(result: ContestantResult) -> tuple[bool, float]:
    return result.stochastic, result.seconds


def _summarize_contestant(rows: Sequence[Measurement], truth: float | None) -> ContestantResult:
    timed = [row for row in rows if row.round and row.seconds is not None]
    counted = [row for row in timed if not row.contended] or timed
    by_round = {row.round: row.seconds for row in counted if row.seconds is not None}
    seconds = list(by_round.values())
    median = statistics.median(seconds)
    errors = [row.error for row in timed if row.error is not None]
    values = [row.value for row in timed if row.value is not None] if rows[0].quantity != "diagonal" else []
    negative = [row.negative for row in timed if row.negative is not None]
    return ContestantResult(
        name=rows[0].contestant,
        package=rows[0].package,
        seconds=median,
        timed=by_round,
        spread=(max(seconds) - min(seconds)) / median,
        rounds=len(timed),
        contended=sum(row.contended for row in timed),
        stochastic=any(row.stochastic for row in timed),
        averages=rows[0].quantity != "top-eigenvalue" and not _is_biased(values, truth),
        error=math.sqrt(statistics.fmean(error**2 for error in errors)) if errors else None,
        negative=max(negative, default=None),
        batch=timed[-1].batch,
        peak_bytes=max((row.peak_bytes for row in timed if row.peak_bytes is not None), default=None),
    )


def _is_biased(values: Sequence[float], truth: float | None) -> bool:
    """Whether Student's t test rejects, at BIAS_TEST_LEVEL, that the mean of the draws is the reference value."""
    if truth is None or len(values) < MIN_DRAWS:
        return False
    deviation = abs(statistics.fmean(values) - truth)
    standard_error = statistics.stdev(values) / math.sqrt(len(values))
    critical = stats.t.isf(BIAS_TEST_LEVEL / 2, len(values) - 1)
    return bool(deviation > TARGET_ERROR * abs(truth) and deviation > critical * standard_error)
