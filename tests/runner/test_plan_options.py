"""PlanOptions: one value or keywords, checked when it is made."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from sharpbench import InvalidInput, PlanOptions, PopulationOptions, plan
from sharpbench.runner.plan_options import LEAST, PlanKeywords

COHORT = "label-noise[ratios=2,seeds=2,train_size=16]"


def test_options_are_a_value_or_keywords() -> None:
    words: dict[str, Any] = {"seed": 3, "dtype": "float64", "device": "cpu", "examples": 8, "timing": 2, "oracle": 0}
    by_value = plan("trace", "small-mlp", PlanOptions(**words), cohort=COHORT)
    assert by_value == plan("trace", "small-mlp", cohort=COHORT, **words)
    assert [cell.checks.names for cell in by_value] == [("timing", "invariance"), ("timing",), (), ()]
    assert {item.name for item in fields(PlanOptions)} == set(PlanKeywords.__annotations__)
    with pytest.raises(InvalidInput, match="options and seed, dtype are given; give either the value or its fields"):
        plan("trace", "small-mlp", PlanOptions(), cohort=COHORT, seed=3, dtype="float64")


def test_a_population_has_the_same_options_and_a_cache() -> None:
    names = {item.name for item in fields(PopulationOptions)}
    assert names == {item.name for item in fields(PlanOptions)} | {"cache_dir"}
    options = PopulationOptions(device="cpu", timing=0, cache_dir="cache")
    assert plan("trace", "small-mlp", options, cohort=COHORT) == plan(
        "trace", "small-mlp", cohort=COHORT, device="cpu", timing=0
    )


@pytest.mark.parametrize("kind", [PlanOptions, PopulationOptions])
@pytest.mark.parametrize(("name", "least"), LEAST.items())
def test_numbers_that_there_are_not_are_refused(kind: type[PlanOptions], name: str, least: int) -> None:
    assert getattr(kind(**{name: least}), name) == least
    with pytest.raises(InvalidInput, match=f"{name}={least - 1} must be at least {least}"):
        kind(**{name: least - 1})
    with pytest.raises(InvalidInput, match="seed=-1 must be from 0 to"):
        kind(seed=-1)
    with pytest.raises(InvalidInput, match="dtype 'half' is none of float32, float64"):
        kind(dtype="half")  # type: ignore[arg-type]
