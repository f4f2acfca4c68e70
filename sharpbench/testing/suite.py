"""All checks in their order, as a report or as one assertion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from sharpbench.core.measure import Measure, NotApplicable
from sharpbench.core.subject import Subject
from sharpbench.errors import InvalidInput, shorten
from sharpbench.testing import accuracy, declarations, invariances, repetition
from sharpbench.testing.cases import DTYPE, Case, make_cases
from sharpbench.testing.examination import Check, CheckFailed, CheckSkipped, Examination, describe_error

Checker = Callable[[Examination], str]
"""Returns the detail of a passed check. Raises CheckFailed or CheckSkipped otherwise."""
DEFAULT_RTOL = 1e-6

CHECKS: dict[str, Checker] = {
    "declarations": declarations.check_declarations,
    "frozen value": declarations.check_frozen,
    "words": declarations.check_specs,
    "subjects": declarations.check_subjects,
    "coupled examples": declarations.check_coupled_examples,
    "estimates": declarations.check_estimates,
    "seed": repetition.check_seed,
    "preparation": repetition.check_preparation,
    "batch size": repetition.check_batch_size,
    "order": repetition.check_order,
    "duplicated data": repetition.check_duplicated_data,
    **{f"invariance: {kind}": partial(invariances.check_claimed, kind=kind) for kind in invariances.KINDS},
    "not claimed": invariances.find_unclaimed,
    "oracle": accuracy.check_oracle,
    "error bars": accuracy.check_error_bars,
    "errors over examples": accuracy.check_example_errors,
    "float32": accuracy.check_float32,
    # the last two report the side effects of all calls before them
    "writes nothing": repetition.check_writes,
    "no other randomness": repetition.check_randomness,
}


def check_measure(
    measure: Measure | type[Measure],
    *,
    subjects: Sequence[Subject] = (),
    seed: int = 0,
    rtol: float = DEFAULT_RTOL,
    progress: Callable[[Check], None] | None = None,
) -> list[Check]:
    """The report of `examine` on a measure that passes all checks, for use in a test.

    Args:
        measure: a measure, or its class, which is then tried with its defaults.
        subjects: networks on which it is also tried.
        seed: the seed of its random probes.
        rtol: the relative difference up to which two values are equal.
        progress: called with every finished check.

    Returns:
        One Check for each name in CHECKS.

    Raises:
        AssertionError: if checks fail; the message names each of them with its cause.
        InvalidInput: if `measure` is not a measure, or the seed is out of bounds.

    >>> from sharpbench_measures import ParameterNorm
    >>> check_measure(ParameterNorm)[0]
    Check(name='declarations', outcome='ok', detail='')
    """
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
    rtol: float = DEFAULT_RTOL,
    progress: Callable[[Check], None] | None = None,
) -> list[Check]:
    """The report on how a measure keeps the contract: one Check for each name in CHECKS.

    The measure is evaluated on ten networks of 15 to 130 parameters in float64. Nothing is trained, and a measure that
    costs a few gradients takes seconds.

    Args:
        measure: a measure, or its class, which is then tried with its defaults.
        subjects: networks on which it is also tried.
        seed: the seed of its random probes.
        rtol: the relative difference up to which two values are equal. Raise it for a measure whose own iteration
            stops earlier.
        progress: called with every finished check.

    Raises:
        InvalidInput: if `measure` is not a measure, or the seed is out of bounds.

    >>> from sharpbench_measures import ParameterNorm
    >>> {check.outcome for check in examine(ParameterNorm)} == {"ok", "skipped"}
    True
    """
    report = []
    for check in _run_checks(measure, subjects, seed, rtol):
        report.append(check)
        if progress is not None:
            progress(check)
    return report


def _run_checks(
    measure: Measure | type[Measure], subjects: Sequence[Subject], seed: int, rtol: float
) -> Iterator[Check]:
    try:
        chosen = measure() if isinstance(measure, type) else measure
    except Exception as error:  # a plugin's class may raise anything
        yield Check("declarations", "failed", f"cannot be made from its defaults: {describe_error(error)}")
        return
    if not 0 <= seed < 2**63:
        raise InvalidInput(f"seed={seed} must be from 0 to {2**63 - 1}")
    if not isinstance(chosen, Measure):
        raise InvalidInput(f"{shorten(repr(measure))} is not a measure; give a Measure or its class")
    given = tuple(Case(subject.name, subject.to(dtype=DTYPE)) for subject in subjects)
    exam = Examination.start(chosen, (*make_cases(), *given), seed=seed, rtol=rtol)
    for name, checker in CHECKS.items():
        yield _run_check(name, checker, exam)


def _run_check(name: str, checker: Checker, exam: Examination) -> Check:
    try:
        return Check(name, "ok", checker(exam))
    except CheckFailed as failure:
        return Check(name, "failed", str(failure))
    except CheckSkipped as reason:
        return Check(name, "skipped", str(reason))
    except NotApplicable as error:
        return Check(name, "failed", f"has no value where it had one before: {error}")
    except Exception as error:  # a measure may raise anything
        return Check(name, "failed", f"raised {describe_error(error)}")
