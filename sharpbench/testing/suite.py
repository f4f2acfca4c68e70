"""Suite: all checks in their order, as a report or as one assertion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from sharpbench.core.measure import Measure, NotApplicable
from sharpbench.core.subject import Subject
from sharpbench.errors import InvalidInput, short
from sharpbench.testing import accuracy, declarations, invariances, repetition
from sharpbench.testing.cases import WIDE, Case, cases
from sharpbench.testing.examination import Check, Examination, Failed, Skipped, cause

Checker = Callable[[Examination], str]
RTOL = 1e-6

CHECKS: dict[str, Checker] = {
    "declarations": declarations.declarations,
    "frozen value": declarations.frozen,
    "words": declarations.words,
    "subjects": declarations.subjects,
    "estimates": declarations.estimates,
    "seed": repetition.seed,
    "preparation": repetition.preparation,
    "batch size": repetition.batch_size,
    "order": repetition.order,
    "duplicated data": repetition.duplicated,
    **{f"invariance: {kind}": partial(invariances.claimed, kind=kind) for kind in invariances.KINDS},
    "not claimed": invariances.unclaimed,
    "oracle": accuracy.oracle,
    "error bars": accuracy.error_bars,
    "float32": accuracy.float32,
    # the last two look at what all calls before them left behind
    "writes nothing": repetition.writes,
    "no other randomness": repetition.randomness,
}


def check_measure(
    measure: Measure | type[Measure],
    *,
    subjects: Sequence[Subject] = (),
    seed: int = 0,
    rtol: float = RTOL,
    progress: Callable[[Check], None] | None = None,
) -> list[Check]:
    """The report of `examine`, where no check fails; else one AssertionError that names each failed one."""
    report = examine(measure, subjects=subjects, seed=seed, rtol=rtol, progress=progress)
    failed = [f"{check.name}: {check.detail}" for check in report if check.outcome == "failed"]
    if failed:
        name = getattr(measure, "name", measure)
        raise AssertionError(f"measure '{name}' fails {len(failed)} of {len(report)} checks\n" + "\n".join(failed))
    return report


def examine(
    measure: Measure | type[Measure],
    *,
    subjects: Sequence[Subject] = (),
    seed: int = 0,
    rtol: float = RTOL,
    progress: Callable[[Check], None] | None = None,
) -> list[Check]:
    """How a measure, or a class of one at its defaults, keeps the contract: one Check for each of CHECKS.

    It is evaluated on ten networks of 15 to 130 parameters in float64, and on `subjects`; nothing is trained, and a
    measure of a few gradients is done within seconds. `rtol` is the relative difference between values that
    should be equal: raise it for a measure whose own iteration stops earlier. `progress` sees every check as it is
    done.
    """
    report = []
    for check in _checks(measure, subjects, seed, rtol):
        report.append(check)
        if progress is not None:
            progress(check)
    return report


def _checks(measure: Measure | type[Measure], subjects: Sequence[Subject], seed: int, rtol: float) -> Iterator[Check]:
    try:
        chosen = measure() if isinstance(measure, type) else measure
    except Exception as error:  # whatever a plugin's class raises
        yield Check("declarations", "failed", f"cannot be made from its defaults: {cause(error)}")
        return
    if not 0 <= seed < 2**63:
        raise InvalidInput(f"seed={seed} must be from 0 to {2**63 - 1}")
    if not isinstance(chosen, Measure):
        raise InvalidInput(f"{short(repr(measure))} is no measure; give a Measure or its class")
    own = tuple(Case(subject.name, subject.to(dtype=WIDE)) for subject in subjects)
    exam = Examination.of(chosen, (*cases(), *own), seed=seed, rtol=rtol)
    for name, checker in CHECKS.items():
        yield _judged(name, checker, exam)


def _judged(name: str, checker: Checker, exam: Examination) -> Check:
    try:
        return Check(name, "ok", checker(exam))
    except Failed as failure:
        return Check(name, "failed", str(failure))
    except Skipped as reason:
        return Check(name, "skipped", str(reason))
    except NotApplicable as error:
        return Check(name, "failed", f"has no value where it had one before: {error}")
    except Exception as error:  # whatever a measure raises
        return Check(name, "failed", f"raised {cause(error)}")
