"""The jackknife over groups of examples: against what is known of means, and through the front door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from sharpbench import Estimate, InvalidInput, Invariance, Measure, NotApplicable, Subject, measure
from sharpbench.core.example_groups import jackknife_groups


def subject(count: int = 23, batch: int = 4) -> Subject:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    return Subject.from_module(
        module, torch.randn(count, 3).double(), torch.randint(3, (count,)), batch_size=batch, name="tanh"
    )


def mean(left: Subject) -> float:
    return float(left.inputs.square().sum(1).mean())


def test_of_a_mean_with_a_group_per_example_it_is_the_textbook_s() -> None:
    given = subject()
    values = given.inputs.square().sum(1)
    expected = float(values.std() / len(values) ** 0.5)
    assert jackknife_groups(mean(given), given, len(values), mean).stderr == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("count", "groups"), [(400, 20), (390, 20), (50, 7)])
def test_groups_of_unequal_sizes_are_unbiased_for_the_variance(count: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(1)
    given = subject(count)
    found = []
    for _ in range(200):
        inputs = torch.randn(count, 3, generator=generator).double()
        moved = given.to(dtype=torch.float64)
        object.__setattr__(moved, "inputs", inputs)
        found.append(jackknife_groups(mean(moved), moved, groups, mean).stderr ** 2)
    expected = 6 / count  # the variance of |x|^2 in three dimensions
    sampled = torch.tensor(found).double()
    assert float(sampled.mean()) == pytest.approx(expected, abs=4 * float(sampled.std()) / 200**0.5)


def test_a_measure_without_an_error_is_given_one_where_that_is_asked_for() -> None:
    given = subject()
    plain, asked = measure("gradient-norm", given), measure("gradient-norm", given, jackknife=5)
    assert plain.stderr_examples is None
    assert asked.value == plain.value
    assert asked.stderr_examples
    assert asked.details["stderr_examples"] == "jackknife of 5 groups"
    assert measure("gradient-norm", given, jackknife=5) == asked  # the groups are the same ones


def test_a_measure_that_states_its_own_error_keeps_it() -> None:
    given = subject()
    assert measure("ggn-trace", given, jackknife=5) == measure("ggn-trace", given)


@dataclass(frozen=True)
class Fussy(Measure):
    """A value for all examples together only."""

    name: ClassVar[str] = "fussy"
    title: ClassVar[str] = "t"
    source: ClassVar[str] = "s"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        if len(subject.inputs) < 23:
            raise NotApplicable("too few examples")
        return Estimate(1.0)

    def exact(self, subject: Subject) -> float | None:
        return None

    def invariances(self) -> frozenset[Invariance]:
        return frozenset()


def test_where_a_part_of_the_examples_has_no_value_there_is_no_error_and_the_reason() -> None:
    found = measure(Fussy(), subject(), jackknife=5)
    assert found.stderr_examples is None
    assert found.details["stderr_examples"] == "no jackknife: too few examples"


@pytest.mark.parametrize(("groups", "match"), [(1, "from 2 to 1000"), (24, "at most as many groups as examples")])
def test_groups_that_give_no_error_are_refused(groups: int, match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        measure("gradient-norm", subject(), jackknife=groups)
