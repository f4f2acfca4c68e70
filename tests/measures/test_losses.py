"""Each installed measure on each loss and layout of outputs: equal to its definition, or refused with a reason."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from sharpbench import Measure, NotApplicable, Subject, measure
from sharpbench.core.registry import available
from tests.losses import CASES

INSTALLED = [cls for cls in available("measures").classes.values() if cls.__module__.startswith("sharpbench_measures.")]
QUICK = ("ggn-trace", "fisher-rao", "minimum", "adaptive-trace")


@cache
def subject_of(name: str) -> Subject:
    return CASES[name].subject()


def check(case: str, cls: type[Measure]) -> None:
    subject = subject_of(case)
    try:
        found = measure(cls(), subject)
    except NotApplicable:
        return
    wanted = cls().exact(subject)
    if wanted is not None:
        bound = 1e-8 * max(1.0, abs(wanted)) + 5 * (found.stderr or 0.0)
        assert abs(found.value - wanted) <= bound, (cls.name, found.value, wanted)


@pytest.mark.parametrize("case", ["tied characters", "multi-label"])
@pytest.mark.parametrize("name", QUICK)
def test_values_are_those_of_the_definition_or_refused(case: str, name: str) -> None:
    check(case, next(cls for cls in INSTALLED if cls.name == name))


@pytest.mark.slow  # each loss and each measure: three minutes
@pytest.mark.parametrize("case", CASES)
def test_every_measure_is_right_on_every_loss_or_refuses_it(case: str) -> None:
    for cls in INSTALLED:
        check(case, cls)


@pytest.mark.parametrize("case", ["multi-label", "normal"])
def test_losses_that_are_no_likelihoods_have_no_fisher_information(case: str) -> None:
    subject = subject_of(case)
    for word in ("fisher-rao", "fisher-trace"):
        with pytest.raises(NotApplicable, match=r"that of a likelihood, and .* use .*fisher=empirical"):
            measure(word, subject)
    gradients = [
        torch.func.grad(lambda params, x=x, y=y: subject.criterion(subject.apply(params, x), y)[0])(subject.params)
        for x, y in zip(subject.inputs.split(1), subject.targets.split(1), strict=True)
    ]
    along = [sum(float((each[name] * value).sum()) for name, value in subject.params.items()) for each in gradients]
    squares = sum(each**2 for each in along) / len(along)
    assert measure("fisher-rao[fisher=empirical]", subject).value == pytest.approx(squares, rel=1e-10)
