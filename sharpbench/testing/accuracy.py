"""Accuracy of the value: against the oracle, against its own error bars, and in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from sharpbench.core.measure import Estimate, NotApplicable
from sharpbench.testing.cases import Case
from sharpbench.testing.examination import (
    CheckFailed,
    CheckSkipped,
    Examination,
    estimates_agree,
    has_unknown_error,
    rounding_tolerance,
    to_float32,
)

SEEDS = 24
"""The number of other seeds under which a sampled measure is evaluated."""
INTERVAL_LEVEL = 0.95
NORMAL_QUANTILE = 1.96
"""Standard errors on each side of a normal 95 % interval."""
MAX_EXAMPLE_CASES = 2
"""Subjects on which every example is measured by itself."""
FALSE_ALARM = 1e-4
"""The probability that correct error bars fail the check."""
FLOAT32_RTOL = 1e-3
"""The relative difference that float32 may make."""


def check_oracle(exam: Examination) -> str:
    """On every subject the value equals `exact`, up to rounding and its standard error."""
    errors = []
    for case, estimate in exam.estimates:
        truth = exam.monitor.exact(case.subject)
        if truth is None or has_unknown_error(estimate):
            continue
        if not np.isfinite(truth):
            raise CheckFailed(f"{case.name}: exact() returns {truth}; return None where there is no value")
        if not estimates_agree(estimate, Estimate(truth), exam.rtol):
            value = f"{estimate.value:.8g} +- {estimate.stderr or 0:.2g}"
            raise CheckFailed(f"{case.name}: {value}, exact() says {truth:.8g}")
        errors.append(abs(estimate.value - truth) / max(abs(truth), rounding_tolerance(truth, truth, 0.0)))
    if not errors:
        raise CheckSkipped("no oracle on these subjects, or sampled values whose error is declared unknown")
    return f"{len(errors)} subjects, largest relative error {max(errors):.1e}"


def check_error_bars(exam: Examination) -> str:
    """Under other seeds, a value declared exact stays the same and a sampled one varies as its stderr says."""
    for case, estimate in exam.estimates:
        if estimate.stderr == 0.0:
            _check_deterministic(exam, case, estimate)
    uncertain = [(case, estimate) for case, estimate in exam.estimates if estimate.stderr]
    if not uncertain:
        return "exact as declared, also under other seeds"
    case = uncertain[0][0]
    one_batch = replace(case.subject, batch_size=case.subject.n)  # faster, with the same distribution
    drawn = [exam.estimate(one_batch, seed=exam.seed + 1 + index) for index in range(SEEDS)]
    if len({estimate.value for estimate in drawn}) == 1:
        raise CheckFailed(f"{case.name}: says stderr={drawn[0].stderr:.2g}, and is the same under {SEEDS} seeds")
    truth = exam.monitor.exact(case.subject)
    return _check_spread(case, drawn) if truth is None else _check_coverage(exam, case, drawn, truth)


def _check_deterministic(exam: Examination, case: Case, estimate: Estimate) -> None:
    other = exam.estimate(case.subject, seed=exam.seed + 1)
    if not estimates_agree(estimate, other, exam.rtol):
        raise CheckFailed(
            f"{case.name}: says stderr=0.0, exact up to rounding, and is {estimate.value:.8g}, then {other.value:.8g} "
            "under another seed; state its standard error, or None where it is unknown"
        )


def _check_coverage(exam: Examination, case: Case, drawn: Sequence[Estimate], truth: float) -> str:
    """Both intervals, value +- 1.96 stderr and the stated one, cover the truth as often as they claim."""
    normal = [
        (
            estimate.value - NORMAL_QUANTILE * (estimate.stderr or 0),
            estimate.value + NORMAL_QUANTILE * (estimate.stderr or 0),
        )
        for estimate in drawn
    ]
    stated = [estimate.interval for estimate in drawn if estimate.interval is not None]
    slack = rounding_tolerance(truth, truth, exam.rtol)  # a method that has become exact has intervals of length 0
    counts = []
    for name, intervals in {"value +- 1.96 stderr": normal, "interval": stated}.items():
        covered = sum(low - slack <= truth <= high + slack for low, high in intervals)
        if intervals and stats.binom.cdf(covered, len(intervals), INTERVAL_LEVEL) < FALSE_ALARM:
            raise CheckFailed(
                f"{case.name}: {name} holds exact() = {truth:.6g} for {covered} of {len(intervals)} seeds"
            )
        counts += [f"{name} holds exact() for {covered} of {len(intervals)} seeds"] if intervals else []
    return "; ".join(counts)


def _check_spread(case: Case, drawn: Sequence[Estimate]) -> str:
    """Without an oracle: the values spread no more than the standard errors say."""
    variance = float(np.var([estimate.value for estimate in drawn], ddof=1))
    stated = float(np.mean([(estimate.stderr or 0) ** 2 for estimate in drawn]))
    text = f"values of {len(drawn)} seeds spread by {variance**0.5:.2g}, stderr says {stated**0.5:.2g}"
    if (len(drawn) - 1) * variance > stated * float(stats.chi2.isf(FALSE_ALARM, len(drawn) - 1)):
        raise CheckFailed(f"{case.name}: {text}")
    return text


def check_example_errors(exam: Examination) -> str:
    """A stated standard error over examples is that of the values of single examples, where the value is their mean."""
    stated = [(case, each) for case, each in exam.estimates if each.stderr_examples is not None]
    if not stated:
        raise CheckSkipped("states no standard error over examples")
    compared = 0
    for case, estimate in stated:
        if case.subject.n < 2:
            if estimate.stderr_examples:
                raise CheckFailed(
                    f"{case.name}: says stderr_examples={estimate.stderr_examples:.2g} of a single example"
                )
        elif estimate.stderr == 0.0 and compared < MAX_EXAMPLE_CASES:
            compared += _check_example_error(exam, case, estimate)
    if not compared:
        return f"stated on {len(stated)} subjects; the value is no mean over examples, so it is not compared"
    return f"stated on {len(stated)} subjects; that of single examples on {compared}"


def _check_example_error(exam: Examination, case: Case, estimate: Estimate) -> bool:
    """Whether the value is the mean of those of the examples, whose spread its error then is."""
    pairs = case.subject.split()
    alone = [replace(case.subject, inputs=example, targets=target, batch_size=1) for example, target in pairs]
    try:
        values = np.array([exam.estimate(each).value for each in alone])
    except NotApplicable:  # no value on a single example, so none is their mean
        return False
    found = float(values.std(ddof=1)) / len(values) ** 0.5
    stated = estimate.stderr_examples or 0.0
    if stated == 0.0 and found > rounding_tolerance(estimate.value, estimate.value, exam.rtol):
        raise CheckFailed(
            f"{case.name}: says stderr_examples=0.0, no dependence on the examples, and is {values.min():.8g} to "
            f"{values.max():.8g} on single ones"
        )
    if abs(float(values.mean()) - estimate.value) > rounding_tolerance(estimate.value, estimate.value, exam.rtol):
        return False
    if abs(found - stated) > rounding_tolerance(estimate.value, estimate.value, exam.rtol):
        raise CheckFailed(
            f"{case.name}: says stderr_examples={stated:.8g}; values of single examples, whose mean the value is, "
            f"have a standard error of {found:.8g}"
        )
    return True


def check_float32(exam: Examination) -> str:
    """The value in float32 is the same to three digits."""
    unknown = 0
    for case, double in exam.estimates:
        single = exam.estimate(to_float32(case.subject))
        if estimates_agree(double, single, FLOAT32_RTOL):
            continue
        if not (has_unknown_error(double) or has_unknown_error(single)):
            raise CheckFailed(f"{case.name}: {double.value:.8g} in float64, {single.value:.8g} in float32")
        unknown += 1
    if unknown == len(exam.estimates):
        raise CheckSkipped("no subject, or sampled values whose error is declared unknown")
    return f"{len(exam.estimates) - unknown} subjects"
