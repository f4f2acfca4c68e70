"""Every built-in measure keeps the contract, at its defaults and with each other option."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Literal

import pytest
import torch
from torch import nn

from sharpbench import InvalidInput, Measure, Subject
from sharpbench.core.registry import available
from sharpbench.core.spec import format_spec
from sharpbench.testing import check_measure, suite
from sharpbench.testing.cases import make_cases
from sharpbench.testing.declarations import configurations

INSTALLED = {
    name: cls
    for name, cls in available("measures").classes.items()
    if cls.__module__.startswith("sharpbench_measures.")
}
"""Those of other packages are judged where they are made: tests/peers for the other libraries."""


LONG = {
    *("adaptive", "adaptive-spectral", "adaptive-trace", "geodesic", "hessian-frobenius", "igs", "keskar"),
    *("quotient-norm", "spectral-density", "top-eigenvalue"),
}
"""Measures whose evaluations on ten networks take 7 s to half a minute; their own files test what matters."""


SHORTENED = {"trace", "ggn-trace", "fisher-trace", "normalized", "minimum"}
"""Measures that take 4 to 7 s, which are examined on FEW of the networks."""
FEW = {"biases", "one example", "mean squared error", "residual and batch norm", "attention"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG | SHORTENED else name for name in INSTALLED]
)
def test_it_keeps_the_contract(name: str) -> None:
    check_measure(INSTALLED[name])


@pytest.mark.parametrize("name", sorted(SHORTENED))
def test_it_keeps_the_contract_on_some_networks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = tuple(case for case in make_cases() if case.name in FEW)
    assert len(chosen) == len(FEW)
    monkeypatch.setattr(suite, "make_cases", lambda: chosen)
    check_measure(INSTALLED[name])


@pytest.mark.parametrize("name", INSTALLED)
def test_it_says_all_that_its_page_shows(name: str) -> None:
    cls: type[Measure] = INSTALLED[name]
    for said in ("definition", "reduction", "included", "cost", "bibtex"):
        assert getattr(cls, said), said
    assert cls.__doc__
    assert format_spec(cls()) == name


WRONG = {
    Literal: ("nothing of the kind", "is none of "),
    int: (2.5, "is not a whole number"),
    float: ("0.1", "is not a number"),
    bool: (1, "is neither true nor false"),
    str: (None, "is not text"),
}
FIELDS = [(cls, item.name) for cls in INSTALLED.values() for item in dataclasses.fields(cls)]


@pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda each: getattr(each, "name", each))
def test_a_hyperparameter_is_of_its_annotation(cls: type[Measure], name: str) -> None:
    """Its option, or the type of a number: nothing else counts as one of them."""
    annotation = typing.get_type_hints(cls)[name]
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = next(each for each in typing.get_args(annotation) if each is not type(None))
    value, message = WRONG[typing.get_origin(annotation) or annotation]
    with pytest.raises(InvalidInput, match=f"measure '{cls.name}': {name}={value} {message}"):
        cls(**{name: value})
    if annotation in (int, float):
        with pytest.raises(InvalidInput, match=f"measure '{cls.name}': {name}=True is no"):
            cls(**{name: True})
    if annotation is float:
        with pytest.raises(InvalidInput, match=f"measure '{cls.name}': {name}=nan is not finite"):
            cls(**{name: float("nan")})


def configured() -> list[Measure]:
    """Each installed measure with each other option of a field that lists its options."""
    return [each for cls in INSTALLED.values() for each in configurations(cls()) if each != cls()]


@pytest.mark.slow
@pytest.mark.parametrize("measure", configured(), ids=format_spec)
def test_it_keeps_the_contract_with_each_option(measure: Measure) -> None:
    check_measure(measure, subjects=[many_classes()])


def many_classes() -> Subject:
    """14 classes and 166 parameters: for methods that need more of either than the suite's own networks have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 14)).double()
        inputs, targets = torch.randn(7, 4, dtype=torch.float64), torch.randint(14, (7,))
    return Subject.from_module(module, inputs, targets, batch_size=4, name="many classes")
