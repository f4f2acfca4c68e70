"""Forecasts: what works, what it takes, and how near that comes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import nn

from sharpbench import Estimate, Measure, NotApplicable, Subject
from sharpbench.core.measure import Invariance
from sharpbench.runner import cost
from sharpbench.runner.cost import forecast_seconds, predict_cost


@dataclass(frozen=True)
class Sleeps(Measure):
    """Takes `fixed` seconds and `each` an example, and holds `held` bytes a batch."""

    name: ClassVar[str] = "sleeps"
    title: ClassVar[str] = "sleeps"
    source: ClassVar[str] = "none"
    sleep: ClassVar[Callable[[float], None]] = staticmethod(time.sleep)
    fixed: float = 0.0
    each: float = 0.0
    held: int = 0

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        """See Measure."""
        if self.held < 0:
            raise NotApplicable("not for this network")
        type(self).sleep(self.fixed + self.each * len(subject.inputs))
        block = torch.ones(self.held // 4)
        return Estimate(float(block.sum()))

    def exact(self, subject: Subject) -> float | None:
        """See Measure."""
        return None

    def invariances(self) -> frozenset[Invariance]:
        """See Measure."""
        return frozenset()


@pytest.fixture(autouse=True)
def kept_garbage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting the garbage of all other tests takes as long as these do: only those of memory do so."""
    if "memory" not in request.node.name:
        monkeypatch.setattr(cost, "gc", SimpleNamespace(collect=lambda: 0))


@pytest.fixture
def simulated_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are timed with a clock that only `Sleeps` advances, by the seconds for which it would sleep."""
    now = 0.0

    def advance(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(Sleeps, "sleep", staticmethod(advance))
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: now))


def subject(examples: int, batch_size: int = 16) -> Subject:
    network = nn.Linear(4, 3)
    return Subject.from_module(
        network, torch.randn(examples, 4), torch.zeros(examples, dtype=torch.int64), batch_size=batch_size
    )


@pytest.mark.usefixtures("simulated_time")
def test_time_is_a_line_through_two_pilots() -> None:
    found = predict_cost(Sleeps(fixed=0.05, each=0.004), subject(1000))
    assert (found.status, found.reason) == ("ok", None)
    assert found.pilots[0] == 8 < found.pilots[1] < 1000
    assert found.seconds == pytest.approx(4.05)


def test_time_is_predicted_for_another_number_of_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([1.0, 3.0])
    monkeypatch.setattr(cost, "_warm_median", lambda _: next(seconds))
    found = predict_cost(Sleeps(), subject(100), examples=1000)
    few, many = found.pilots
    assert found.seconds == pytest.approx(1.0 + 2.0 / (many - few) * (1000 - few))


@pytest.mark.usefixtures("simulated_time")
def test_what_does_not_grow_with_the_examples_is_not_multiplied() -> None:
    assert predict_cost(Sleeps(fixed=0.1), subject(1000)).seconds == pytest.approx(0.1)


@pytest.mark.usefixtures("simulated_time")
def test_after_a_long_pilot_there_is_no_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "MAX_FIRST_PILOT_SECONDS", 0.01)
    found = predict_cost(Sleeps(each=0.01), subject(100))
    assert found.pilots == (8,)
    assert found.seconds == pytest.approx(1.0)


@pytest.mark.usefixtures("simulated_time")
def test_a_single_example_is_its_own_pilot() -> None:
    found = predict_cost(Sleeps(fixed=0.02), subject(1))
    assert found.pilots == (1,)
    assert found.seconds == pytest.approx(0.02)


def test_memory_is_what_the_larger_pilot_holds() -> None:
    held = 32 * 2**20
    found = predict_cost(Sleeps(held=held), subject(100))
    if found.bytes is None:
        pytest.skip("the peak of memory cannot be read here")
    assert 0.7 * held < found.bytes < 1.6 * held


def test_what_will_not_fit_is_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "peak_bytes", lambda call, device: 2**30)
    monkeypatch.setattr(cost, "free_bytes", lambda device: 2**20)
    found = predict_cost(Sleeps(), subject(20))
    assert (found.status, found.bytes, found.seconds) == ("oom", 2**30, None)
    assert found.reason == "needs 1,024 MiB where 1 MiB are free; use fewer or smaller inputs"


def test_a_measure_that_does_not_work_says_why() -> None:
    found = predict_cost(Sleeps(held=-1), subject(20))
    assert (found.status, found.reason, found.seconds) == ("skipped", "not for this network", None)


def test_a_slow_measure_keeps_to_its_seconds() -> None:
    found = predict_cost(Sleeps(fixed=100), subject(20), seconds=0.05)
    assert (found.status, found.seconds) == ("timeout", None)
    assert found.reason == "a call on 8 of 20 examples took longer than 0.05 s"


def test_calls_that_ended_in_time_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is up in the second call."""
    calls: list[Subject] = []

    def end_later(self: Sleeps, subject: Subject, *, generator: torch.Generator) -> Estimate:
        calls.append(subject)
        if len(calls) > 1:
            signal.raise_signal(signal.SIGALRM)
        return Estimate(1.0)

    monkeypatch.setattr(Sleeps, "__call__", end_later)
    found = predict_cost(Sleeps(), subject(16), seconds=3600)
    assert (found.status, found.pilots, len(calls)) == ("ok", (8,), 2)
    assert found.seconds is not None


@pytest.mark.usefixtures("simulated_time")
def test_a_forecast_is_the_line_through_two_calls() -> None:
    seconds = forecast_seconds(Sleeps(fixed=0.05, each=0.001), subject(1 << 14))
    assert seconds == pytest.approx(16.434)
    assert forecast_seconds(Sleeps(fixed=0.1), subject(256)) is None  # surely below ten seconds
    assert forecast_seconds(Sleeps(each=1), subject(255)) is None  # too few examples
    assert forecast_seconds(Sleeps(held=-1), subject(1024)) is None  # not applicable
