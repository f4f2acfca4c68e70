"""Examination: one measure, the cases it is tried on, and how near two of its values have to be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from scipy import stats

from sharpbench.core.measure import Estimate, Measure, NotApplicable
from sharpbench.core.subject import Subject
from sharpbench.errors import one_line
from sharpbench.testing.cases import Case
from sharpbench.testing.check import Failed, Skipped
from sharpbench.testing.witness import Witness

RARE = 1e-6
"""Sampled values are held to differ where chance makes a difference this large no more often."""
TINY = 1e-14
"""Below this, values are rounding."""


@dataclass(frozen=True, slots=True)
class Examination:
    """estimates: of each case to which the measure is applicable; refused, raised: why it has none on the others."""

    chosen: Measure
    seed: int
    rtol: float
    witness: Witness
    estimates: tuple[tuple[Case, Estimate], ...]
    refused: dict[str, str] = field(default_factory=dict)
    raised: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(chosen: Measure, cases: Sequence[Case], *, seed: int, rtol: float) -> Examination:
        """The measure evaluated once on every case."""
        witness = Witness(chosen)
        estimates: list[tuple[Case, Estimate]] = []
        refused: dict[str, str] = {}
        raised: dict[str, str] = {}
        for case in cases:
            try:
                estimates.append((case, witness.estimate(case.subject, seed=seed)))
            except NotApplicable as error:
                refused[case.name] = str(error).strip()
            except Exception as error:  # whatever it raises is the finding
                raised[case.name] = cause(error)
        return Examination(chosen, seed, rtol, witness, tuple(estimates), refused, raised)

    def estimate(
        self, subject: Subject, *, seed: int | None = None, elsewhere: int = 0, prepared: bool = False
    ) -> Estimate:
        """What the measure says of `subject`, under the examination's own seed where no other is named."""
        chosen = self.seed if seed is None else seed
        return self.witness.estimate(subject, seed=chosen, elsewhere=elsewhere, prepared=prepared)

    def compare(self, before: Estimate, subject: Subject, where: str) -> bool:
        """Hold the value on `subject` against an earlier one; False where chance, of unknown size, may explain it.

        Raises Failed with both values where they differ by more than rounding and chance.
        """
        after = self.estimate(subject)
        if agree(before, after, self.rtol):
            return True
        if sampled_blindly(before) or sampled_blindly(after):
            return False
        raise Failed(f"{where}: {before.value:.8g} becomes {after.value:.8g}")

    def compare_all(self, pairs: Sequence[tuple[Estimate, Subject, str]]) -> str:
        """`compare` for each; says of how many. Raises Skipped where chance of unknown size may explain them all."""
        if not pairs:
            raise Skipped("no subject to try it on")
        seen = [self.compare(*pair) for pair in pairs]
        if not any(seen):
            raise Skipped("values differ, and the measure samples with an error that it says is unknown")
        return f"{sum(seen)} comparisons"


def agree(one: Estimate, other: Estimate, rtol: float) -> bool:
    """Whether two estimates differ by no more than rounding, and chance as their standard errors tell it."""
    return abs(one.value - other.value) <= rounding(one.value, other.value, rtol) + chance(one, other)


def rounding(one: float, other: float, rtol: float) -> float:
    """The difference that is no difference."""
    return TINY + rtol * max(abs(one), abs(other))


def chance(*estimates: Estimate) -> float:
    """The difference beyond which chance alone goes no more often than RARE: Student's t, few probes, wide tails."""
    spread = math.hypot(*(each.stderr or 0.0 for each in estimates))
    if spread == 0:
        return 0.0
    freedom = max(1, min(each.probes for each in estimates if each.stderr) - 1)
    return spread * float(stats.t.isf(RARE / 2, freedom))


def sampled_blindly(estimate: Estimate) -> bool:
    """Whether it was drawn and its error is unknown."""
    return estimate.stderr is None and estimate.probes > 0


def single(subject: Subject) -> Subject:
    """The subject in float32."""
    return subject.to(dtype=torch.float32)


def cause(error: BaseException) -> str:
    """The error's type and text, on one line."""
    return one_line(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
