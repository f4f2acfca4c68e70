"""One measure evaluated on all cases, and the tolerance within which two of its values are equal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from scipy import stats

from sharpbench.core.measure import Estimate, Measure, NotApplicable
from sharpbench.core.subject import Subject
from sharpbench.errors import one_line
from sharpbench.testing.cases import Case
from sharpbench.testing.side_effects import SideEffectMonitor

Outcome = Literal["ok", "failed", "skipped"]
SAMPLING_FALSE_ALARM = 1e-6
"""Two sampled values count as different if chance explains such a difference with at most this probability."""
ABSOLUTE_TOLERANCE = 1e-14
"""Smaller differences are rounding."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report on a measure.

    Args:
        name: what was checked.
        outcome: "ok", "failed" or "skipped".
        detail: what was observed: figures, the cause of a failure, or a finding.
    """

    name: str
    outcome: Outcome
    detail: str = ""


class CheckFailed(Exception):
    """Raised by a check that the measure does not pass; the message says what was observed."""


class CheckSkipped(Exception):
    """Raised by a check that does not apply; the message says why."""


@dataclass(frozen=True, slots=True)
class Examination:
    """One measure with its estimates on all cases.

    Args:
        measure: the measure.
        seed: the seed of its random probes.
        rtol: the relative difference up to which two values are equal.
        monitor: evaluates the measure and records its side effects.
        estimates: the estimate on each case to which the measure is applicable.
        not_applicable: the reason of NotApplicable, by the name of the case.
        raised: any other error, by the name of the case.
    """

    measure: Measure
    seed: int
    rtol: float
    monitor: SideEffectMonitor
    estimates: tuple[tuple[Case, Estimate], ...]
    not_applicable: dict[str, str] = field(default_factory=dict)
    raised: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def start(measure: Measure, cases: Sequence[Case], *, seed: int, rtol: float) -> Examination:
        """The measure evaluated once on every case."""
        monitor = SideEffectMonitor(measure)
        estimates: list[tuple[Case, Estimate]] = []
        not_applicable: dict[str, str] = {}
        raised: dict[str, str] = {}
        for case in cases:
            try:
                estimates.append((case, monitor.estimate(case.subject, seed=seed)))
            except NotApplicable as error:
                not_applicable[case.name] = str(error).strip()
            except Exception as error:  # any error of the measure is a finding
                raised[case.name] = describe_error(error)
        return Examination(measure, seed, rtol, monitor, tuple(estimates), not_applicable, raised)

    def estimate(
        self, subject: Subject, *, seed: int | None = None, global_seed: int = 0, prepared: bool = False
    ) -> Estimate:
        """The estimate on `subject`, by default with the examination's seed."""
        chosen = self.seed if seed is None else seed
        return self.monitor.estimate(subject, seed=chosen, global_seed=global_seed, prepared=prepared)

    def compare(self, before: Estimate, subject: Subject, where: str) -> bool:
        """Whether the value on `subject` equals an earlier one; False if chance of unknown size may explain it.

        Raises:
            CheckFailed: if both differ by more than rounding and chance; the message states both values.
        """
        after = self.estimate(subject)
        if estimates_agree(before, after, self.rtol):
            return True
        if has_unknown_error(before) or has_unknown_error(after):
            return False
        raise CheckFailed(f"{where}: {before.value:.8g} becomes {after.value:.8g}")

    def compare_all(self, pairs: Sequence[tuple[Estimate, Subject, str]]) -> str:
        """The number of comparisons that `compare` has made, in words.

        Raises:
            CheckSkipped: if there is none, or chance of unknown size may explain all differences.
        """
        if not pairs:
            raise CheckSkipped("no subject to try it on")
        compared = [self.compare(*pair) for pair in pairs]
        if not any(compared):
            raise CheckSkipped("values differ, and the measure states that the error of its sampling is unknown")
        return f"{sum(compared)} comparisons"


def estimates_agree(one: Estimate, other: Estimate, rtol: float) -> bool:
    """Whether two estimates differ by at most rounding and the chance that their standard errors allow."""
    tolerance = rounding_tolerance(one.value, other.value, rtol) + sampling_tolerance(one, other)
    return abs(one.value - other.value) <= tolerance


def rounding_tolerance(one: float, other: float, rtol: float) -> float:
    """The difference up to which two values are equal.

    >>> rounding_tolerance(1.0, -2.0, 0.5)
    1.00000000000001
    """
    return ABSOLUTE_TOLERANCE + rtol * max(abs(one), abs(other))


def sampling_tolerance(*estimates: Estimate) -> float:
    """The difference that chance exceeds with probability SAMPLING_FALSE_ALARM, by Student's t for few probes."""
    spread = math.hypot(*(estimate.stderr or 0.0 for estimate in estimates))
    if spread == 0:
        return 0.0
    freedom = max(1, min(estimate.probes for estimate in estimates if estimate.stderr) - 1)
    return spread * float(stats.t.isf(SAMPLING_FALSE_ALARM / 2, freedom))


def has_unknown_error(estimate: Estimate) -> bool:
    """Whether the estimate is sampled without a standard error."""
    return estimate.stderr is None and estimate.probes > 0


def to_float32(subject: Subject) -> Subject:
    """The subject in float32."""
    return subject.to(dtype=torch.float32)


def describe_error(error: BaseException) -> str:
    """The error's type and text, on one line.

    >>> describe_error(ValueError("too large"))
    'ValueError: too large'
    """
    return one_line(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
