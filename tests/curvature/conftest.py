"""What the tests of the engine share: forward mode's first use, and the peak of torch's allocator."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

with warnings.catch_warnings():  # forward mode compiles its decompositions at first use, with a deprecation warning
    warnings.simplefilter("ignore")
    torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))


@pytest.fixture
def allocated() -> Callable[[Callable[[], object]], int]:
    """Gives the bytes that torch's allocator holds at most during a call, above what it held before."""

    def peak(run: Callable[[], object]) -> int:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            run()
        now = most = 0
        events = [each for each in recorded.profiler.kineto_results.events() if each.name() == "[memory]"]  # type: ignore[union-attr]
        for event in sorted(events, key=lambda event: event.start_ns()):
            now += event.nbytes()
            most = max(most, now)
        return most

    return peak
