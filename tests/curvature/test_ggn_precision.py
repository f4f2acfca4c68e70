"""The Gauss-Newton trace to a precision: what it costs, whether it is reached, and how often it covers."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from sharpbench import InvalidInput, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.core.subject import Subject
from sharpbench.curvature import exact_traces, ggn_trace_estimate


@cache
def many(count: int, classes: int = 10) -> Subject:
    """Captured once; nothing changes it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, classes)).double()
    inputs = torch.randn(count, 6, dtype=torch.float64)
    return Subject.from_module(model, inputs, torch.arange(count) % classes)


def test_a_sketch_covers_with_fewer_columns() -> None:
    subject = many(512)
    truth = sum(exact_traces(subject).values())
    generator = torch.Generator().manual_seed(0)
    hits, methods = 0, []
    for _ in range(40):
        found = ggn_trace_estimate(subject, generator=generator, precision=0.04)
        methods.append(found.details["method"])
        assert found.interval is None or max(abs(end - found.value) for end in found.interval) <= 0.04 * found.value
        hits += found.interval is None or found.interval[0] <= truth <= found.interval[1]
        if methods[-1] == "sketch":
            assert int(str(found.details["columns"])) < 9
    assert methods.count("sketch") > 35
    assert hits >= 34  # of 38 expected, three standard deviations less


@pytest.mark.parametrize(("count", "precision"), [(512, 1e-4), (512, None), (16, 0.1)])
def test_it_is_exact_where_a_sketch_is_not_cheaper(count: int, precision: float | None) -> None:
    subject = many(count)
    found = ggn_trace_estimate(subject, generator=torch.Generator().manual_seed(0), precision=precision)
    assert found.value == pytest.approx(sum(exact_traces(subject).values()), rel=1e-12)
    assert (found.details["method"], found.details["columns"], found.stderr) == ("exact", 9, 0.0)


def test_measures_take_a_precision() -> None:
    subject = many(16, classes=200)
    for word in ("ggn-trace[method=auto,precision=0.2]", "fisher-trace[precision=0.2]", "trace[precision=0.2]"):
        found = measure(word, subject)
        assert found.details["method"] == "sketch", word
        assert int(str(found.details["columns"])) < 100, word
    assert measure("trace", subject).details["method"] == "exact"
    assert measure("ggn-trace[method=auto]", subject).details["method"] == "exact"


def test_precisions_that_go_with_no_method_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"precision=0\.1 goes with method=auto or hutchinson, not exact"):
        parse_measure("ggn-trace[precision=0.1]")
    with pytest.raises(InvalidInput, match=r"precision=0\.1 goes with fisher=true, not empirical"):
        parse_measure("fisher-trace[fisher=empirical,precision=0.1]")
    with pytest.raises(InvalidInput, match=r"precision=0\.0 must be above 0"):
        parse_measure("fisher-trace[precision=0]")
