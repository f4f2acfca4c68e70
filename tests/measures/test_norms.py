"""Lengths of the weights and of their way from the start."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from sharpbench import NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure

NAMES = ("parameter-norm", "distance-from-initialisation")


@pytest.fixture
def moved(chain: Subject) -> Subject:
    """Every weight has gone 0.5, the last bias 2."""
    initial = {name: value - 0.5 for name, value in chain.params.items()}
    initial["4.bias"] = chain.params["4.bias"] + 2
    return replace(chain, initial=initial)


def test_lengths(moved: Subject) -> None:
    flat = torch.cat([value.flatten() for value in moved.params.values()])
    square = float(flat @ flat)
    assert measure("parameter-norm", moved).value == pytest.approx(square, rel=1e-12)
    assert measure("parameter-norm[root=true]", moved).value == pytest.approx(math.sqrt(square), rel=1e-12)
    distance = 0.25 * (moved.size - 3) + 3 * 4
    estimate = measure("distance-from-initialisation", moved)
    assert estimate.value == pytest.approx(distance, rel=1e-12)
    assert estimate.parts["4.bias"] == pytest.approx(12, rel=1e-12)
    assert measure("distance-from-initialisation[root=true]", moved).value == pytest.approx(math.sqrt(distance))
    for word in (*NAMES, *(f"{name}[root=true]" for name in NAMES)):
        assert parse_measure(word).exact(moved) == pytest.approx(measure(word, moved).value, rel=1e-12)


def test_only_what_is_measured_counts(moved: Subject) -> None:
    some = Subject.from_module(
        moved.module, moved.inputs, moved.targets, parameters=["4.bias"], initial=moved.initial or {}
    )
    assert measure("distance-from-initialisation", some).value == pytest.approx(12, rel=1e-12)
    assert measure("parameter-norm", some).value == pytest.approx(float(moved.params["4.bias"].square().sum()))


def test_where_nothing_has_moved(chain: Subject) -> None:
    still = replace(chain, initial=chain.params)
    assert measure("distance-from-initialisation", still).value == 0.0


def test_lengths_scale_with_the_weights(moved: Subject) -> None:
    twice = moved.with_params({name: 2 * value for name, value in moved.params.items()})
    assert measure("parameter-norm", twice).value == pytest.approx(4 * measure("parameter-norm", moved).value)
    assert moved.initial is not None
    start = replace(twice, initial={name: 2 * value for name, value in moved.initial.items()})
    before = measure("distance-from-initialisation", moved).value
    assert measure("distance-from-initialisation", start).value == pytest.approx(4 * before)


def test_invariances(moved: Subject, attention: Subject, invariances_are_true) -> None:  # type: ignore[no-untyped-def]
    initial = {name: value - 0.1 for name, value in attention.params.items()}
    for name in NAMES:
        invariances_are_true(parse_measure(name), moved, replace(attention, initial=initial))


@pytest.mark.parametrize("name", NAMES)
def test_examples_do_not_matter(name: str, moved: Subject, examples_do_not_matter) -> None:  # type: ignore[no-untyped-def]
    examples_do_not_matter(parse_measure(name), moved)


def test_the_start_must_be_known(chain: Subject) -> None:
    with pytest.raises(NotApplicable, match=r"not known; give initial= to Subject\.from_module"):
        measure("distance-from-initialisation", chain)
    assert parse_measure("distance-from-initialisation").exact(chain) is None
    part = replace(chain, initial={"0.weight": chain.params["0.weight"]})
    with pytest.raises(NotApplicable, match=r"the initial weights hold no 0\.bias of shape \[6\]"):
        measure("distance-from-initialisation", part)
    wrong = replace(chain, initial={**chain.params, "4.bias": torch.zeros(7)})
    with pytest.raises(NotApplicable, match=r"the initial weights hold no 4\.bias of shape \[3\]"):
        measure("distance-from-initialisation", wrong)
