"""Declarations of a measure, which need no network, and whether its instances are frozen values."""

from __future__ import annotations

import dataclasses
import json
import pickle
import typing
from collections.abc import Iterator
from contextlib import suppress

from sharpbench.core.fields import is_scalar
from sharpbench.core.measure import Dependence, Estimate, Invariance, Measure
from sharpbench.core.registry import plugin_error
from sharpbench.core.spec import format_spec, parse_spec, to_config
from sharpbench.errors import InvalidInput
from sharpbench.testing.cases import make_coupled_subject
from sharpbench.testing.examination import CheckFailed, Examination, describe_error

TEXTS = ("definition", "reduction", "included", "cost", "bibtex")


def check_declarations(exam: Examination) -> str:
    """Name, title, source, version and vocabulary are what tables and pages need."""
    cls = type(exam.measure)
    if fault := plugin_error("measures", cls):
        raise CheckFailed(fault)
    for name in ("title", "source"):
        if not getattr(cls, name).strip() or "\n" in getattr(cls, name):
            raise CheckFailed(f"{name} must be one line of text, got {getattr(cls, name)!r:.80}")
    for name in TEXTS:
        if not isinstance(getattr(cls, name), str):
            raise CheckFailed(f"{name} must be text, got {getattr(cls, name)!r:.80}")
    if type(cls.version) is not int or cls.version < 1:
        raise CheckFailed(f"version must be a whole number from 1, got {cls.version!r:.80}")
    _check_words("invariances()", exam.measure.invariances(), typing.get_args(Invariance))
    _check_words("depends", cls.depends, typing.get_args(Dependence))
    missing = [name for name in TEXTS if not getattr(cls, name)]
    return f"not stated: {', '.join(missing)}" if missing else ""


def _check_words(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, frozenset):
        raise CheckFailed(f"{name} must be a frozenset, got {value!r:.80}")
    if unknown := sorted(map(str, value - set(allowed))):
        raise CheckFailed(f"{name} has {', '.join(unknown)}; the words are {', '.join(allowed)}")


def check_frozen(exam: Examination) -> str:
    """The measure is hashable, equal to a pickled copy, and its attributes cannot be assigned to."""
    measure = exam.measure
    try:
        copy = pickle.loads(pickle.dumps(measure))
    except Exception as error:  # pickling raises errors of many types
        raise CheckFailed(f"cannot be pickled: {describe_error(error)}") from None
    if copy != measure or hash(copy) != hash(measure):
        raise CheckFailed("a pickled copy is not equal to it, or has another hash")
    with suppress(dataclasses.FrozenInstanceError):
        copy.name = copy.name
        raise CheckFailed("its attributes can be assigned to; write @dataclass(frozen=True)")
    return ""


def check_specs(exam: Examination) -> str:
    """Each configuration's spec is parsed as the same configuration, and its fields are JSON scalars."""
    cls = type(exam.measure)
    configured = list(configurations(exam.measure))
    for measure in configured:
        for name, value in to_config(measure).items():
            if not is_scalar(value):
                raise CheckFailed(
                    f"{name}={value!r:.80} is not a JSON scalar; fields are int, float, bool, str or Literal"
                )
        if (parsed := parse_spec(format_spec(measure), {cls.name: cls}, kind="measure")) != measure:
            raise CheckFailed(f"{format_spec(measure)} is read back as {parsed!r:.80}")
    return f"{len(configured)} configurations"


def configurations(measure: Measure) -> Iterator[Measure]:
    """The measure, and the measure with each value of each field that is a bool or a Literal.

    >>> from sharpbench_measures import Trace
    >>> len(list(configurations(Trace()))) > 1
    True
    """
    yield measure
    for name, options in _field_options(type(measure)).items():
        for option in options:
            with suppress(InvalidInput):  # some options exclude each other
                yield dataclasses.replace(measure, **{name: option})


def _field_options(cls: type[Measure]) -> dict[str, tuple[object, ...]]:
    """The possible values of the fields that are a bool or a Literal."""
    hints = typing.get_type_hints(cls)
    names = [item.name for item in dataclasses.fields(cls)]
    literals = {
        name: typing.get_args(hints[name]) for name in names if typing.get_origin(hints[name]) is typing.Literal
    }
    return literals | {name: (False, True) for name in names if hints[name] is bool}


def check_subjects(exam: Examination) -> str:
    """Every tiny network gives a value, or NotApplicable with a reason."""
    if exam.raised:
        name, text = next(iter(exam.raised.items()))
        raise CheckFailed(f"{name}: raised {text}; raise NotApplicable where there is no value")
    if silent := [name for name, reason in exam.not_applicable.items() if not reason]:
        raise CheckFailed(f"{silent[0]}: NotApplicable without a reason")
    reasons = "; ".join(f"{name}: {reason}" for name, reason in exam.not_applicable.items())
    if not exam.estimates:
        raise CheckFailed(f"applicable to no subject, give one in subjects=: {reasons}")
    text = f"values on {len(exam.estimates)} of {len(exam.estimates) + len(exam.not_applicable)} subjects"
    return f"{text}; not applicable to {reasons}" if reasons else text


def check_coupled_examples(exam: Examination) -> str:
    """A network that mixes the examples of a batch is refused, so that the measure never meets it."""
    try:
        subject = make_coupled_subject()
    except InvalidInput as refusal:
        return f"refused before the measure is called: {refusal}"
    raise CheckFailed(f"a network that mixes examples is accepted, and the value is {exam.estimate(subject).value:.8g}")


def check_estimates(exam: Examination) -> str:
    """The fields of an estimate have the types that a record stores without change."""
    for case, estimate in exam.estimates:
        for name, expected in {"value": float, "probes": int, "converged": bool}.items():
            if not isinstance(getattr(estimate, name), expected):
                raise CheckFailed(f"{case.name}: {name} is {getattr(estimate, name)!r:.80}, not a {expected.__name__}")
        fields = {item.name: getattr(estimate, item.name) for item in dataclasses.fields(Estimate)}
        plain = {**fields, "parts": dict(estimate.parts), "details": dict(estimate.details)}
        try:
            parsed = json.loads(json.dumps(plain, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise CheckFailed(f"{case.name}: {describe_error(error)}") from None
        if parsed["parts"] != plain["parts"] or parsed["details"] != plain["details"]:
            raise CheckFailed(f"{case.name}: parts or details are not the same after JSON; their keys must be text")
    return ""
