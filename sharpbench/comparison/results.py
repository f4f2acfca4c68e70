"""Result: what the rows of one contestant come to; and all of one network."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from sharpbench.analysis.statistics.interval import LEVEL
from sharpbench.comparison.benchmark import last_measurements
from sharpbench.comparison.measurement import GRADIENT, ORACLE, Measurement
from sharpbench.core.fields import Scalar

PAIRS = 6
"""Pairs below which a median has no 95 % interval: between all of 5 it lies less often."""
TARGET = 0.01
"""The relative error to which contestants are compared."""
RARE, LEAST_DRAWS = 0.01, 3
"""Of at least so many draws, the chance to call an unbiased mean biased."""
OURS = "sharpbench_measures"
"""The package of the built-in measures, to whose seconds those of others are set in proportion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One contestant on one network.

    seconds: the median over its rounds, without those that were contended where there are others; spread: the
    largest less the smallest, over it. error: the relative error, of a stochastic one the root of the mean of its
    square over `rounds`. timed: the seconds by round of which these are the median. averages: as far as the rounds
    show, the mean of repetitions comes nearer to the truth; that of an eigenvalue's iterations does not. negative: at
    most so many entries of its diagonal are below 0.
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
    def ours(self) -> bool:
        """Whether it is a built-in measure."""
        return self.package == OURS

    @property
    def exact(self) -> bool:
        """Whether no random number made it, and it is right to TARGET."""
        return not self.stochastic and self.error is not None and self.error <= TARGET

    @property
    def few(self) -> bool:
        """Whether its error is of too few draws to be relied on."""
        return self.stochastic and self.rounds < PAIRS

    @property
    def extrapolated(self) -> bool:
        """Whether `to_target` is of repetitions."""
        return self.stochastic and self.averages and self.error is not None and self.error > TARGET

    @property
    def to_target(self) -> float | None:
        """Seconds to a relative error of TARGET: its own where it has that; of a stochastic one that has not, those
        of as many repetitions as their mean needs, which holds where it is unbiased. None where it never has it."""
        if self.error is None or (self.error > TARGET and not self.extrapolated):
            return None
        return self.seconds * max(1.0, (self.error / TARGET) ** 2)


@dataclass(frozen=True, slots=True)
class Ratio:
    """Seconds over those of another, with the 95 % interval where there are rounds enough for one."""

    value: float
    interval: tuple[float, float] | None


def paired_ratio(result: Result, unit: Result) -> Ratio:
    """By how much `result` takes longer than `unit`.

    The median over the rounds that both have timed, each divided by the other's of the same round, with its interval by
    order statistics (scipy's quantile_test; from PAIRS rounds on). With fewer, as where a call takes long, the
    quotient of both medians, without one.
    """
    pairs = [seconds / unit.timed[number] for number, seconds in result.timed.items() if number in unit.timed]
    if len(pairs) < PAIRS:
        return Ratio(result.seconds / unit.seconds, None)
    within: Any = stats.quantile_test(pairs, p=0.5).confidence_interval(LEVEL)
    return Ratio(statistics.median(pairs), (float(within.low), float(within.high)))


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkResult:
    """All that is known of one network. losses: (contestant, status, reason). oracle: its row, if it has one."""

    match: str
    network: str
    quantity: str
    settings: Mapping[str, Scalar]
    environments: tuple[Mapping[str, Scalar], ...]
    libraries: Mapping[str, Scalar]
    oracle: Measurement | None
    gradient: Result | None
    results: tuple[Result, ...]
    losses: tuple[tuple[str, str, str], ...]


def network_results(turns: Iterable[Measurement]) -> list[NetworkResult]:
    """The networks in the order of their first rows."""
    matches: dict[str, list[Measurement]] = {}
    for turn in turns:
        matches.setdefault(turn.match, []).append(turn)
    return [_standing(rows) for rows in matches.values()]


def _standing(rows: Sequence[Measurement]) -> NetworkResult:
    by_name: dict[str, list[Measurement]] = {}
    for turn in rows:
        by_name.setdefault(turn.contestant, []).append(turn)
    oracle = [turn for turn in rows if turn.role == ORACLE]
    by_name.pop(ORACLE, None)
    truth = oracle[-1].value if oracle else None
    held = {name: last_measurements(mine) for name, mine in by_name.items()}
    bad = {name: next((turn for turn in mine if turn.status != "ok"), None) for name, mine in held.items()}
    found = [_result(mine, truth) for name, mine in held.items() if not bad[name] and any(turn.round for turn in mine)]
    first = rows[0]
    measured = [turn.environment for turn in rows if turn.role != ORACLE and turn.status == "ok"]
    places = {tuple(sorted(each.items(), key=str)): each for each in measured}
    return NetworkResult(
        match=first.match,
        network=first.network,
        quantity=first.quantity,
        settings=first.settings,
        environments=tuple(places.values()),
        libraries=dict(sorted({name: held for turn in rows for name, held in turn.libraries.items()}.items())),
        oracle=oracle[-1] if oracle else None,
        gradient=next((each for each in found if each.name == GRADIENT), None),
        results=tuple(sorted((each for each in found if each.name != GRADIENT), key=_order)),
        losses=tuple((name, turn.status, str(turn.reason)) for name, turn in bad.items() if turn is not None),
    )


def _order(result: Result) -> tuple[bool, float]:
    return result.stochastic, result.seconds


def _biased(values: Sequence[float], truth: float | None) -> bool:
    """Whether the mean of draws lies off the truth by more than chance does once in 1 / RARE, by Student's t."""
    if truth is None or len(values) < LEAST_DRAWS:
        return False
    off = abs(statistics.fmean(values) - truth)
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return bool(off > TARGET * abs(truth) and off > stats.t.isf(RARE / 2, len(values) - 1) * spread)


def _result(rows: Sequence[Measurement], truth: float | None) -> Result:
    timed = [turn for turn in rows if turn.round and turn.seconds is not None]
    alone = [turn for turn in timed if not turn.contended] or timed
    by_round = {turn.round: turn.seconds for turn in alone if turn.seconds is not None}
    seconds = list(by_round.values())
    median = statistics.median(seconds)
    errors = [turn.error for turn in timed if turn.error is not None]
    values = [turn.value for turn in timed if turn.value is not None] if rows[0].quantity != "diagonal" else []
    negative = [turn.negative for turn in timed if turn.negative is not None]
    return Result(
        name=rows[0].contestant,
        package=rows[0].package,
        seconds=median,
        timed=by_round,
        spread=(max(seconds) - min(seconds)) / median,
        rounds=len(timed),
        contended=sum(turn.contended for turn in timed),
        stochastic=any(turn.stochastic for turn in timed),
        averages=rows[0].quantity != "top-eigenvalue" and not _biased(values, truth),
        error=math.sqrt(statistics.fmean(error**2 for error in errors)) if errors else None,
        negative=max(negative, default=None),
        batch=timed[-1].batch,
        peak_bytes=max((turn.peak_bytes for turn in timed if turn.peak_bytes is not None), default=None),
    )
