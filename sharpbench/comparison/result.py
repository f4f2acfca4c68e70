"""Result: what the rows of one contestant come to; and all of one network."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sharpbench.comparison.match import kept
from sharpbench.comparison.turn import GRADIENT, ORACLE, Turn
from sharpbench.contract import Scalar

TARGET = 0.01
"""The relative error to which contestants are compared."""
OURS = "sharpbench_measures"
"""The package of the built-in measures, to whose seconds those of others are set in proportion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One contestant on one network.

    seconds: the median over its rounds, without those that were contended where there are others; spread: the
    largest less the smallest, over it. error: the relative error, of a stochastic one the root of the mean of its
    square over `rounds`. negative: at most so many entries of its diagonal are below 0.
    """

    name: str
    package: str
    seconds: float
    spread: float
    rounds: int
    contended: int
    stochastic: bool
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
    def extrapolated(self) -> bool:
        """Whether `to_target` is more than its seconds."""
        return self.stochastic and self.error is not None and self.error > TARGET

    @property
    def to_target(self) -> float | None:
        """Seconds to a relative error of TARGET: its own where it has that; of a stochastic one that has not, those
        of as many repetitions as their mean needs, which holds where it is unbiased. None where it never has it."""
        if self.error is None or (self.error > TARGET and not self.stochastic):
            return None
        return self.seconds * max(1.0, (self.error / TARGET) ** 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """All that is known of one network. losses: (contestant, status, reason). oracle: its row, if it has one."""

    match: str
    network: str
    quantity: str
    settings: Mapping[str, Scalar]
    environments: tuple[Mapping[str, Scalar], ...]
    libraries: Mapping[str, Scalar]
    oracle: Turn | None
    gradient: Result | None
    results: tuple[Result, ...]
    losses: tuple[tuple[str, str, str], ...]


def standings(turns: Iterable[Turn]) -> list[Standing]:
    """The networks in the order of their first rows."""
    matches: dict[str, list[Turn]] = {}
    for turn in turns:
        matches.setdefault(turn.match, []).append(turn)
    return [_standing(rows) for rows in matches.values()]


def _standing(rows: Sequence[Turn]) -> Standing:
    by_name: dict[str, list[Turn]] = {}
    for turn in rows:
        by_name.setdefault(turn.contestant, []).append(turn)
    oracle = by_name.pop(ORACLE, None)
    held = {name: kept(mine) for name, mine in by_name.items()}
    bad = {name: next((turn for turn in mine if turn.status != "ok"), None) for name, mine in held.items()}
    found = [_result(mine) for name, mine in held.items() if not bad[name] and any(turn.round for turn in mine)]
    first = rows[0]
    measured = [turn.environment for turn in rows if turn.role != ORACLE and turn.status == "ok"]
    places = {tuple(sorted(each.items(), key=str)): each for each in measured}
    return Standing(
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


def _result(rows: Sequence[Turn]) -> Result:
    timed = [turn for turn in rows if turn.round and turn.seconds is not None]
    alone = [turn for turn in timed if not turn.contended] or timed
    seconds = [turn.seconds for turn in alone if turn.seconds is not None]
    median = statistics.median(seconds)
    errors = [turn.error for turn in timed if turn.error is not None]
    negative = [turn.negative for turn in timed if turn.negative is not None]
    return Result(
        name=rows[0].contestant,
        package=rows[0].package,
        seconds=median,
        spread=(max(seconds) - min(seconds)) / median,
        rounds=len(timed),
        contended=sum(turn.contended for turn in timed),
        stochastic=any(turn.stochastic for turn in timed),
        error=math.sqrt(statistics.fmean(error**2 for error in errors)) if errors else None,
        negative=max(negative, default=None),
        batch=timed[-1].batch,
        peak_bytes=max((turn.peak_bytes for turn in timed if turn.peak_bytes is not None), default=None),
    )
