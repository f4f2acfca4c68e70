"""cost(): seconds, gradients and peak memory of one call, with nothing shared and the warm-up left out."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from sharpbench import Subject
from sharpbench.runner import cost as timing
from sharpbench.runner.cost import REPEATS, measure_cost

MIB = 2**20


def linear(criterion: str | Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = "cross_entropy") -> Subject:
    inputs = torch.randn(64, 30, generator=torch.Generator().manual_seed(0))
    return Subject.from_module(torch.nn.Linear(30, 5), inputs, torch.zeros(64).long(), loss=criterion)


@pytest.fixture(autouse=True)
def kept_garbage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting the garbage of all other tests takes as long as these do: only those of memory do so."""
    if "peak" not in request.node.name:
        monkeypatch.setattr(timing, "gc", SimpleNamespace(collect=lambda: 0))


class Clock:
    """A clock that moves by 0.01 s at each reading, and when a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the code under test."""
    moved = Clock()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=moved))
    return moved


def test_every_call_gets_a_subject_of_its_own() -> None:
    subject = linear()
    seen: list[Subject] = []
    computed: list[Subject] = []

    def slow(given: Subject) -> int:
        computed.append(given)
        return len(computed)

    def call(given: Subject) -> None:
        seen.append(given)
        given.once(slow)
        given.once(slow)

    subject.once(slow)
    measure_cost(call, subject)
    assert len(seen) == len({id(given) for given in seen}) == 1 + REPEATS + 1  # warm-up, timed, memory
    assert len(computed) == 1 + len(seen)
    assert all(given.params is subject.params and given.inputs is subject.inputs for given in seen)


def test_what_is_prepared_is_for_that_call_and_not_timed(clock: Clock) -> None:
    ready: list[Subject] = []

    def prepare(fresh: Subject) -> None:
        ready.append(fresh)
        clock.now += 50.0

    def call(given: Subject) -> None:
        assert given is ready[-1]
        clock.now += 0.2

    spent = measure_cost(call, linear(), prepare=prepare)
    assert len(ready) == len({id(each) for each in ready}) == 1 + REPEATS + 1
    assert spent.seconds == pytest.approx(0.21)
    assert spent.gradients == pytest.approx(21.0)


def test_a_long_call_is_timed_once(clock: Clock) -> None:
    calls: list[Subject] = []

    def call(given: Subject) -> None:
        calls.append(given)
        clock.now += 1.5

    spent = measure_cost(call, linear())
    assert len(calls) == 1 + 1 + 1
    assert spent.seconds == pytest.approx(1.51)


def test_seconds_are_the_median_without_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([90.0, 0.1, 0.5, 0.2, 0.3, 0.4, 70.0, 0.02, 0.05, 0.01, 0.04, 0.03])

    def timed(call: Callable[[], object], device: torch.device) -> float:
        return next(times)

    monkeypatch.setattr(timing, "time_call", timed)
    spent = measure_cost(lambda _: None, linear())
    assert (spent.seconds, spent.gradients) == (0.3, pytest.approx(10.0))
    assert not list(times)


def test_ten_gradients_cost_ten_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """With evaluations of the loss in place of seconds."""
    evaluations = 0

    def counted(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal evaluations
        evaluations += 1
        return torch.nn.functional.cross_entropy(logits, targets, reduction="none")

    def timed(call: Callable[[], object], device: torch.device) -> float:
        before = evaluations
        call()
        return float(evaluations - before)

    monkeypatch.setattr(timing, "time_call", timed)
    monkeypatch.setattr(timing, "MAX_REPEATED_SECONDS", 100.0)
    subject = linear(counted)
    one = measure_cost(lambda given: torch.func.grad(given.loss)(given.params), subject)
    many = measure_cost(lambda given: [torch.func.grad(given.loss)(given.params) for _ in range(10)], subject)
    assert (one.gradients, many.gradients) == (1.0, 10.0)


def test_what_the_call_raises_comes_through() -> None:
    def call(_: Subject) -> None:
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        measure_cost(call, linear())


def test_the_peak_is_that_of_the_call_alone() -> None:
    """What the call frees before it ends counts; what stood before does not."""
    standing = torch.ones(32 * MIB)
    peak = measure_cost(lambda _: torch.ones(8 * MIB).sum(), linear()).peak_bytes
    if peak is None:
        pytest.skip("the kernel does not let the peak be counted anew")
    assert 28 * MIB < peak < 64 * MIB
    little = measure_cost(lambda _: torch.ones(8), linear()).peak_bytes
    assert little is not None
    assert little < 16 * MIB
    assert float(standing[0]) == 1.0


def test_a_peak_that_cannot_be_told_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_reset_peak_memory", lambda: False)
    assert measure_cost(lambda _: None, linear()).peak_bytes is None


def test_a_subject_on_the_cpu_is_timed_there_where_there_is_a_gpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is that of the process: torch's allocations on the device say nothing of it."""

    def refuse(*_: object) -> None:
        raise AssertionError("the device was asked")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("synchronize", "reset_peak_memory_stats", "memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, refuse)
    assert measure_cost(lambda _: None, linear()).seconds >= 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_on_a_gpu_the_call_is_waited_for_and_its_allocations_count() -> None:
    subject = linear().to(device="cuda")

    def call(given: Subject) -> None:
        square = torch.ones(4096, 4096, device="cuda")
        for _ in range(20):
            square = square @ square * 1e-4

    spent = measure_cost(call, subject)
    assert spent.seconds > 1e-3
    assert spent.peak_bytes is not None
    assert 2 * 64 * MIB <= spent.peak_bytes < 1024 * MIB


def test_the_end_of_a_time_limit_is_not_lost_in_the_callback_of_a_weak_reference() -> None:
    """Python ignores an exception there, and pytest makes an error of it."""
    ended = time.monotonic() + 0.05

    class Held:
        pass

    def wait() -> None:
        while time.monotonic() < ended:
            pass

    def work() -> None:
        held = Held()
        weakref.finalize(held, wait)
        del held
        while True:
            time.sleep(0.001)

    with pytest.raises(timing._OutOfTime), timing._time_limit(0.01):
        work()
