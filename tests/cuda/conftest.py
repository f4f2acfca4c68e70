"""Where the tests that are marked `cuda` run, and a line of JSON about each where `make gpu` asks for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from sharpbench.environment import apply_settings

REPORT = os.environ.get("SHARPBENCH_TEST_REPORT")


@pytest.fixture
def device() -> str:
    """The device under test: CUDA, or what $SHARPBENCH_TEST_DEVICE names: cpu, or simulated."""
    named = os.environ.get("SHARPBENCH_TEST_DEVICE", "cuda")
    if named == "simulated":
        import tests.cuda.simulated_device  # noqa: F401  # registers it, which tests of the CPU shall not meet
    if named == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    apply_settings(named, 1)
    return named


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Append the outcome of a test, once it is known."""
    final = report.when == "call" or report.outcome != "passed"
    if REPORT is None or not final or "PYTEST_XDIST_WORKER" in os.environ:
        return
    row = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 3)}
    if report.failed:
        row["reason"] = str(report.longrepr).strip().splitlines()[-1][:300]
    with Path(REPORT).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")
