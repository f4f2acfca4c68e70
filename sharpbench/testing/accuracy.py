"""Accuracy: the value against its oracle, its error bars against its errors, float32 against float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from sharpbench.core.measure import Estimate
from sharpbench.testing.cases import Case
from sharpbench.testing.examination import Examination, Failed, Skipped, agree, rounding, sampled_blindly, single

SEEDS = 24
STATED = 0.95
NORMAL = 1.96
UNLIKELY = 1e-4
"""The probability of failing sound error bars."""
SINGLE = 1e-3
"""Relative difference that float32 may make."""


def oracle(exam: Examination) -> str:
    """On every subject the value is what `exact` says, up to rounding and its standard error."""
    errors = []
    for case, estimate in exam.estimates:
        truth = exam.witness.exact(case.subject)
        if truth is None or sampled_blindly(estimate):
            continue
        if not np.isfinite(truth):
            raise Failed(f"{case.name}: exact() returns {truth}; return None where there is no value")
        if not agree(estimate, Estimate(truth), exam.rtol):
            raise Failed(f"{case.name}: {estimate.value:.8g} +- {estimate.stderr or 0:.2g}, exact() says {truth:.8g}")
        errors.append(abs(estimate.value - truth) / max(abs(truth), rounding(truth, truth, 0.0)))
    if not errors:
        raise Skipped("no oracle on these subjects, or values drawn with an error that is said to be unknown")
    return f"{len(errors)} subjects, largest relative error {max(errors):.1e}"


def error_bars(exam: Examination) -> str:
    """Under other seeds: what is said to be exact stays, what is said to be uncertain is so by as much."""
    for case, estimate in exam.estimates:
        if estimate.stderr == 0.0:
            _stays(exam, case, estimate)
    uncertain = [(case, estimate) for case, estimate in exam.estimates if estimate.stderr]
    if not uncertain:
        return "exact as it says, under other seeds too"
    case = uncertain[0][0]
    together = replace(case.subject, batch_size=len(case.subject.inputs))  # faster, and of the same distribution
    drawn = [exam.estimate(together, seed=exam.seed + 1 + index) for index in range(SEEDS)]
    if len({each.value for each in drawn}) == 1:
        raise Failed(f"{case.name}: says stderr={drawn[0].stderr:.2g}, and is the same under {SEEDS} seeds")
    truth = exam.witness.exact(case.subject)
    return _spreads(case, drawn) if truth is None else _covers(exam, case, drawn, truth)


def _stays(exam: Examination, case: Case, estimate: Estimate) -> None:
    other = exam.estimate(case.subject, seed=exam.seed + 1)
    if not agree(estimate, other, exam.rtol):
        raise Failed(
            f"{case.name}: says stderr=0.0, exact up to rounding, and is {estimate.value:.8g}, then {other.value:.8g} "
            "under another seed; state its standard error, or None where it is unknown"
        )


def _covers(exam: Examination, case: Case, drawn: Sequence[Estimate], truth: float) -> str:
    """Intervals of two kinds, value +- 1.96 stderr and the one that is stated, hold the truth as often as they say."""
    bars = [(each.value - NORMAL * (each.stderr or 0), each.value + NORMAL * (each.stderr or 0)) for each in drawn]
    stated = [each.interval for each in drawn if each.interval is not None]
    slack = rounding(truth, truth, exam.rtol)  # a method that has become exact has bars of nothing
    counts = []
    for name, intervals in {"value +- 1.96 stderr": bars, "interval": stated}.items():
        held = sum(low - slack <= truth <= high + slack for low, high in intervals)
        if intervals and stats.binom.cdf(held, len(intervals), STATED) < UNLIKELY:
            raise Failed(f"{case.name}: {name} holds exact() = {truth:.6g} for {held} of {len(intervals)} seeds")
        counts += [f"{name} holds exact() for {held} of {len(intervals)} seeds"] if intervals else []
    return "; ".join(counts)


def _spreads(case: Case, drawn: Sequence[Estimate]) -> str:
    """Without an oracle: the values spread no more than the standard errors say."""
    spread = float(np.var([each.value for each in drawn], ddof=1))
    said = float(np.mean([(each.stderr or 0) ** 2 for each in drawn]))
    if (len(drawn) - 1) * spread > said * float(stats.chi2.isf(UNLIKELY, len(drawn) - 1)):
        raise Failed(
            f"{case.name}: values of {len(drawn)} seeds spread by {spread**0.5:.2g}, stderr says {said**0.5:.2g}"
        )
    return f"values of {len(drawn)} seeds spread by {spread**0.5:.2g}, stderr says {said**0.5:.2g}"


def float32(exam: Examination) -> str:
    """In float32 the same, to three digits."""
    blind = 0
    for case, wide in exam.estimates:
        narrow = exam.estimate(single(case.subject))
        if agree(wide, narrow, SINGLE):
            continue
        if not (sampled_blindly(wide) or sampled_blindly(narrow)):
            raise Failed(f"{case.name}: {wide.value:.8g} in float64, {narrow.value:.8g} in float32")
        blind += 1
    if blind == len(exam.estimates):
        raise Skipped("no subject, or values drawn with an error that is said to be unknown")
    return f"{len(exam.estimates) - blind} subjects"
