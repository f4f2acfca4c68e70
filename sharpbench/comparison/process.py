"""A contestant's process as its parent sees it: it answers one question at a time, within a time limit."""

from __future__ import annotations

import json
from typing import Any

from sharpbench.child_output import UnreadableMessage
from sharpbench.comparison.config import Job
from sharpbench.comparison.worker import serve
from sharpbench.core.record import MAX_REASON_CHARS, Status
from sharpbench.errors import one_line
from sharpbench.processes import ChildEnded, ChildProcess, preload_modules
from sharpbench.runner.engines.pool import worker_death
from sharpbench.runner.engines.process import builtin_modules

START_TIMEOUT_SECONDS = 300.0
"""Time that a process has for its start."""
PRELOADED = ("sharpbench.comparison.worker", "torch._dynamo", "torch._functorch.aot_autograd")
"""What every contestant's process has imported at its start; torch imports the last two at the first derivative."""


class ContestantLost(Exception):
    """A contestant that has no answer.

    Attributes:
        status: as of a record.
        reason: in one line.
    """

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, one_line(reason)[:MAX_REASON_CHARS]


class ContestantProcess:
    """A process that does one job, started at once; it is ready when it has stated its `environment`.

    Raises ContestantLost where it raised, died, or took too long before that.
    """

    def __init__(self, job: Job) -> None:
        preload_modules([*PRELOADED, *builtin_modules()])
        self._child = ChildProcess(serve, job)
        late = f"its start took longer than {START_TIMEOUT_SECONDS:g} s"
        self.environment: dict[str, Any] = self._receive(START_TIMEOUT_SECONDS, late)["environment"]

    def ask(self, do: str, *, timeout: float, **arguments: object) -> dict[str, Any]:
        """The answer to one question.

        Args:
            do: 'call' or 'oracle'.
            timeout: seconds.
            arguments: of that method of `worker.ContestantServer`, as JSON.

        Raises:
            ContestantLost: where the contestant raised, died, or took longer.
        """
        self._child.send_bytes(json.dumps({"do": do, **arguments}).encode())
        return self._receive(timeout, f"a call took longer than {timeout:.3g} s")

    def close(self) -> None:
        """End the process, whatever it does."""
        self._child.close()

    def _receive(self, timeout: float, late: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(self._child.receive_bytes(timeout))
        except TimeoutError:
            self.close()
            raise ContestantLost("timeout", late) from None
        except (UnreadableMessage, ValueError):
            self.close()
            raise ContestantLost("failed", "its process sent bytes that are not an answer") from None
        except ChildEnded as end:
            self.close()
            death = worker_death(end.status)
            raise ContestantLost(death.status, death.reason) from None
        if "status" in answer:
            raise ContestantLost(answer["status"], answer["reason"])
        return answer
