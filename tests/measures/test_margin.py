"""Margins against sorting by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sharpbench import InvalidInput, NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure


def with_margins(*margins: float) -> Subject:
    """Two classes, the logits are the inputs."""
    module = nn.Linear(2, 2, bias=False).double()
    nn.init.eye_(module.weight)
    logits = torch.tensor([[margin, 0.0] for margin in margins], dtype=torch.float64)
    return Subject.from_module(module, logits, torch.zeros(len(margins), dtype=torch.int64), batch_size=4)


@pytest.mark.parametrize(
    ("percentile", "margin"), [(10, 2.0), (10.1, 3.0), (5, 1.0), (15, 3.0), (0.1, 1.0), (50, 10.0), (100, 20.0)]
)
def test_the_percentile_is_one_of_the_margins(percentile: float, margin: float) -> None:
    """Of 1, 2, ..., 20: the smallest at or below which there are that many per cent."""
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0)) + 1
    subject = with_margins(*map(float, order.tolist()))
    estimate = measure(f"margin[percentile={percentile}]", subject)
    assert estimate.value == pytest.approx(margin**-2, rel=1e-12)
    assert estimate.details["margin"] == margin


def test_ten_per_cent_of_thirty_are_three() -> None:
    """0.1 * 30 is above 3 in floating point."""
    assert measure("margin", with_margins(*map(float, range(1, 31)))).details["margin"] == 3.0


def test_it_is_that_of_a_loop_over_classes(conv: Subject) -> None:
    logits = conv.apply(conv.params, conv.inputs)
    best = Subject.from_module(conv.module, conv.inputs, logits.argmax(1), batch_size=4)
    estimate = measure("margin[percentile=40]", best)
    top = logits.topk(2, dim=1).values
    margins = sorted((top[:, 0] - top[:, 1]).tolist())
    assert estimate.value == pytest.approx(margins[3] ** -2, rel=1e-12)
    assert parse_measure("margin[percentile=40]").exact(best) == pytest.approx(estimate.value, rel=1e-12)
    assert estimate.details["misclassified"] == 0.0


def test_a_factor_on_the_logits_scales_it() -> None:
    subject = with_margins(1.0, 2.0, 5.0)
    twice = subject.with_params({"weight": 2 * subject.params["weight"]})
    assert measure("margin", twice).value == pytest.approx(measure("margin", subject).value / 4, rel=1e-12)


def test_a_margin_that_is_not_positive_has_no_inverse() -> None:
    some = with_margins(-1.0, *map(float, range(1, 20)))
    assert measure("margin", some).details["misclassified"] == 0.05
    for margins in ((-1.0, -2.0, 3.0), (0.0, 1.0)):
        with pytest.raises(NotApplicable, match=r"10th percentile of the margins is .*, not positive: too many"):
            measure("margin", with_margins(*margins))


def test_invariances(chain: Subject, attention: Subject, invariances_are_true) -> None:  # type: ignore[no-untyped-def]
    for subject in (chain, attention):
        best = subject.apply(subject.params, subject.inputs).argmax(1)
        invariances_are_true(parse_measure("margin"), Subject.from_module(subject.module, subject.inputs, best))


def test_examples_do_not_matter(conv: Subject, examples_do_not_matter) -> None:  # type: ignore[no-untyped-def]
    best = Subject.from_module(conv.module, conv.inputs, conv.apply(conv.params, conv.inputs).argmax(1), batch_size=4)
    examples_do_not_matter(parse_measure("margin[percentile=30]"), best, single=1e-3)


def test_what_is_refused(regression: Subject) -> None:
    with pytest.raises(NotApplicable, match="there are none under 'mse'"):
        measure("margin", regression)
    assert parse_measure("margin").exact(regression) is None
    single = Subject.from_module(nn.Linear(2, 1), torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(NotApplicable, match="a single class has no margin"):
        measure("margin", single)
    for percentile in (0, 101):
        with pytest.raises(InvalidInput, match=rf"percentile={percentile}\.0 must be above 0 and at most 100"):
            parse_measure(f"margin[percentile={percentile}]")
