"""What Ray's exceptions become in records, without Ray."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sharpbench.runner.engines.pool import WorkerDeath
from sharpbench.runner.engines.ray import RayPool


class RayError(Exception):
    """As ray.exceptions.RayError."""

    cause: Exception | None = None


class RayActorError(RayError):
    """As ray.exceptions.RayActorError."""


def outcome(error: RayError, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The outcome of a cell whose call raises the error."""

    def get(call: object) -> None:
        raise error

    monkeypatch.setattr("sharpbench.runner.engines.ray.REPLACE_PAUSE_SECONDS", 0.0)
    pool = object.__new__(RayPool)
    exceptions = SimpleNamespace(RayError=RayError, RayActorError=RayActorError)
    pool._ray, pool._actors = SimpleNamespace(get=get, exceptions=exceptions), {0: None}
    return pool._outcome(0, None)


def test_the_reason_is_what_the_actor_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own text begins with colours and names of processes, and the cause did not fit behind them."""
    error = RayError("\x1b[36mray::RayWorker.measure()\x1b[39m (pid=6196, ip=192.0.2.1, actor_id=" + "0" * 200)
    error.cause = EOFError("unexpected EOF")
    assert outcome(error, monkeypatch) == WorkerDeath(status="failed", reason="Ray: EOFError: unexpected EOF")
    assert outcome(RayError("no space"), monkeypatch).reason == "Ray: RayError: no space"


def test_a_lost_actor_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    found = outcome(RayActorError("node died"), monkeypatch)
    assert (found.retry, found.started, found.reason) == (True, False, "killed: Ray lost its worker (node died)")
