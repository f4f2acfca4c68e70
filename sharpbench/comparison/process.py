"""Process: a contestant as its parent sees it; asked one thing at a time, within a time limit."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from sharpbench.core.record import Status
from sharpbench.errors import one_line
from sharpbench.runner.engines.process import own_modules
from sharpbench.runner.failures import death_of

OPENING = 300.0
"""Seconds that a process has for its start."""
PATIENCE = 5.0
"""Seconds for a process to end that has been told to."""
IMPORTED = ("sharpbench.comparison.worker", "torch._dynamo", "torch._functorch.aot_autograd")
"""What the server process imports, so that a contestant's has it; the last two torch imports at first derivatives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a process is started with. measure: its word; None is the gradient."""

    measure: str | None
    quantity: str
    model: str
    file: Path
    outputs: int
    dtype: str
    device: str
    threads: int
    plugins: tuple[Path, ...] = ()


class ContestantLost(Exception):
    """A contestant that has no answer: its status and the reason."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, one_line(reason)[:2000]


class ContestantProcess:
    """A process that does one job; started at once, ready when `environment` is there.

    The server process that starts it has torch imported, so that a fresh one costs no second.
    """

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*IMPORTED, *own_modules()])
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=begin, args=(theirs, job), daemon=True)
        self._process.start()
        theirs.close()
        self.environment: dict[str, Any] = self._heard(OPENING, f"its start took longer than {OPENING:g} s")[
            "environment"
        ]

    def ask(self, do: str, *, timeout: float, **words: object) -> dict[str, Any]:
        """The answer to one question. Raises Lost where it raised, died, or took longer than `timeout` seconds."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died, which is found below
            self._connection.send_bytes(json.dumps({"do": do, **words}).encode())
        return self._heard(timeout, f"a call took longer than {timeout:.3g} s")

    def _heard(self, timeout: float, late: str) -> dict[str, Any]:
        ready = wait([self._connection, self._process.sentinel], timeout)
        if not ready:
            self.close()
            raise ContestantLost("timeout", late)
        try:
            answer: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            self._process.join(PATIENCE)
            self.close()
            found = death_of(self._process.exitcode)
            raise ContestantLost(found.status, found.reason) from None
        if "status" in answer:
            raise ContestantLost(answer["status"], answer["reason"])
        return answer

    def close(self) -> None:
        """End it, whatever it does."""
        self._connection.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join(PATIENCE)


def begin(connection: Connection, job: Job) -> None:
    """What a contestant's process runs: `worker.serve`."""
    from sharpbench.comparison.worker import serve

    serve(connection, job)
