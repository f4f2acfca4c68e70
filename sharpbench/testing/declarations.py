"""Declarations: what a measure says of itself without a network, and whether it is the frozen value it should be."""

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
from sharpbench.testing.examination import Examination, Failed, cause

TEXTS = ("definition", "reduction", "included", "cost", "bibtex")


def declarations(exam: Examination) -> str:
    """Name, title, source, version, vocabulary: what tables and pages are made of."""
    cls = type(exam.chosen)
    if fault := plugin_error("measures", cls):
        raise Failed(fault)
    for name in ("title", "source"):
        if not getattr(cls, name).strip() or "\n" in getattr(cls, name):
            raise Failed(f"{name} must be one line of text, got {getattr(cls, name)!r:.80}")
    for name in TEXTS:
        if not isinstance(getattr(cls, name), str):
            raise Failed(f"{name} must be text, got {getattr(cls, name)!r:.80}")
    if type(cls.version) is not int or cls.version < 1:
        raise Failed(f"version must be a whole number from 1, got {cls.version!r:.80}")
    _known("invariances()", exam.chosen.invariances(), typing.get_args(Invariance))
    _known("depends", cls.depends, typing.get_args(Dependence))
    unsaid = [name for name in TEXTS if not getattr(cls, name)]
    return f"not stated: {', '.join(unsaid)}" if unsaid else ""


def _known(what: str, said: object, words: tuple[str, ...]) -> None:
    if not isinstance(said, frozenset):
        raise Failed(f"{what} must be a frozenset, got {said!r:.80}")
    if unknown := sorted(map(str, said - set(words))):
        raise Failed(f"{what} has {', '.join(unknown)}; the words are {', '.join(words)}")


def frozen(exam: Examination) -> str:
    """A value: equal to its copies, hashable, the same after a journey to another process, and never assigned to."""
    chosen = exam.chosen
    try:
        copy = pickle.loads(pickle.dumps(chosen))
    except Exception as error:  # whatever pickling raises
        raise Failed(f"cannot be pickled: {cause(error)}") from None
    if copy != chosen or hash(copy) != hash(chosen):
        raise Failed("a pickled copy is not equal to it, or has another hash")
    with suppress(dataclasses.FrozenInstanceError):
        copy.name = copy.name
        raise Failed("its attributes can be assigned to; write @dataclass(frozen=True)")
    return ""


def words(exam: Examination) -> str:
    """Its word on the command line names it again, also with each option; its configuration is JSON."""
    cls = type(exam.chosen)
    configured = list(configurations(exam.chosen))
    for each in configured:
        for name, value in to_config(each).items():
            if not is_scalar(value):
                raise Failed(f"{name}={value!r:.80} is no JSON scalar; fields are int, float, bool, str or Literal")
        if (again := parse_spec(format_spec(each), {cls.name: cls}, kind="measure")) != each:
            raise Failed(f"{format_spec(each)} is read back as {again!r:.80}")
    return f"{len(configured)} configurations"


def configurations(chosen: Measure) -> Iterator[Measure]:
    """It, and it with each option of each field that has a list of them."""
    yield chosen
    for name, options in _options(type(chosen)).items():
        for option in options:
            with suppress(InvalidInput):  # options may exclude each other
                yield dataclasses.replace(chosen, **{name: option})


def _options(cls: type[Measure]) -> dict[str, tuple[object, ...]]:
    """Field -> the values that it may take, for those with a list of them."""
    hints = typing.get_type_hints(cls)
    names = [item.name for item in dataclasses.fields(cls)]
    listed = {name: typing.get_args(hints[name]) for name in names if typing.get_origin(hints[name]) is typing.Literal}
    return listed | {name: (False, True) for name in names if hints[name] is bool}


def subjects(exam: Examination) -> str:
    """A value on every tiny network, or NotApplicable with a reason."""
    if exam.raised:
        name, text = next(iter(exam.raised.items()))
        raise Failed(f"{name}: raised {text}; raise NotApplicable where there is no value")
    if mute := [name for name, reason in exam.refused.items() if not reason]:
        raise Failed(f"{mute[0]}: NotApplicable without a reason")
    refused = "; ".join(f"{name}: {reason}" for name, reason in exam.refused.items())
    if not exam.estimates:
        raise Failed(f"applicable to no subject, give one in subjects=: {refused}")
    of = f"values on {len(exam.estimates)} of {len(exam.estimates) + len(exam.refused)} subjects"
    return f"{of}; not applicable to {refused}" if refused else of


def estimates(exam: Examination) -> str:
    """Numbers, names and truth values that a record holds as they are."""
    for case, estimate in exam.estimates:
        for name, of in {"value": float, "probes": int, "converged": bool}.items():
            if not isinstance(getattr(estimate, name), of):
                raise Failed(f"{case.name}: {name} is {getattr(estimate, name)!r:.80}, no {of.__name__}")
        held = {item.name: getattr(estimate, item.name) for item in dataclasses.fields(Estimate)}
        plain = {**held, "parts": dict(estimate.parts), "details": dict(estimate.details)}
        try:
            again = json.loads(json.dumps(plain, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise Failed(f"{case.name}: {cause(error)}") from None
        if again["parts"] != plain["parts"] or again["details"] != plain["details"]:
            raise Failed(f"{case.name}: parts or details are not the same after JSON; their keys must be text")
    return ""
