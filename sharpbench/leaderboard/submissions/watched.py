"""Verification in a process that is watched: no cell, training or network takes more time or memory than it may."""

from __future__ import annotations

import math
import pickle
import resource
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

from sharpbench.child_output import UnreadableMessage
from sharpbench.core.record import Record
from sharpbench.errors import InvalidInput
from sharpbench.files import Workspace
from sharpbench.leaderboard.submissions import findings as comparison
from sharpbench.leaderboard.submissions.networks import SubmittedPopulations, VerificationSetting
from sharpbench.leaderboard.submissions.sampling import CellSample, find_installed, resolve_record
from sharpbench.leaderboard.submissions.submission import Submission
from sharpbench.leaderboard.submissions.verify import (
    Compared,
    NetworkEvent,
    StepStarted,
    compare_unknown,
    group_by_network,
    verify_network,
)
from sharpbench.processes import ChildEnded, ChildProcess, exit_words, preload_modules, prepare_child
from sharpbench.runner.engines.limits import Limits, format_bytes
from sharpbench.training.population import TrainingProgress

WATCH_INTERVAL_SECONDS = 0.05
"""Time between looks at the clock, at the memory of the process and at what it prints."""
DONE = "done"
"""The message after the last event of a network."""
PRELOADED = ("sharpbench.leaderboard.submissions.watched",)
"""What every process has imported at its start: torch with the first, the embedded data with the second."""
START_TIMEOUT_SECONDS = 120.0
"""Time, in addition to the limit of a step, that a process has to import torch and to read the submission."""


def verify_with_limits(
    submission: Submission,
    drawn: CellSample,
    setting: VerificationSetting,
    limits: Limits,
    *,
    seconds: float = math.inf,
) -> Iterator[TrainingProgress | Compared]:
    """The findings of `verify_submission`, computed in another process, which is ended where it exceeds a limit.

    A step is the training of the networks that train together, or a cell with its oracle and its rewrites. A step that
    exceeds a limit has an unknown value, which counts as unfinished; the other cells go on in a new process. Findings
    that were made before on a network from the cache then stand.

    Args:
        limits: seconds of a step, and bytes of the process.
        seconds: time after which the step in progress is ended and none begins.

    Raises:
        InvalidInput: for a cache that cannot be written.
        RuntimeError: where verification itself failed.
    """
    preload_modules(PRELOADED)
    yield from compare_unknown(drawn)
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="sharpbench-verify-") as folder:
        packed = pickle.dumps((submission, setting.workspace, folder, limits.memory))
        watch = _Watch(packed, limits, until)
        try:
            for cells in group_by_network(drawn):
                yield from watch.verify([cell.record for cell in cells])
        finally:
            watch.close()


@dataclass(frozen=True, slots=True)
class _Ended:
    """The process ended, or was ended, during a step. limited: by a limit; over: no other step may begin."""

    reason: str
    limited: bool = True
    over: bool = False


@dataclass(slots=True)
class _Watch:
    """The process, which is started anew after each end.

    lost: the key of a cell -> why the training of its network's group was ended, which is not begun again.
    """

    packed: bytes
    limits: Limits
    until: float
    child: ChildProcess | None = field(default=None, init=False)
    lost: dict[str, str] = field(default_factory=dict, init=False)

    def close(self) -> None:
        """End the process."""
        if self.child is not None:
            self.child.close()
        self.child = None

    def verify(self, records: Sequence[Record]) -> Iterator[TrainingProgress | Compared]:
        """The findings on the cells of one network. After an end the process goes on with the cells that are left."""
        waiting = {record.key: record for record in records}
        network_reported = False
        while waiting:
            step, end = StepStarted(), _Ended("", over=True)
            provisional: dict[str, Compared] = {}
            for event in self._run(tuple(waiting)):
                if isinstance(event, StepStarted):
                    step = event
                elif isinstance(event, _Ended):
                    end = event
                elif isinstance(event, TrainingProgress):
                    yield event
                elif not event.final:
                    provisional[event.key] = event
                elif event.key or not network_reported:
                    network_reported |= not event.key
                    waiting.pop(event.key, None)
                    provisional.pop(event.key, None)
                    yield event
            stopped = [step.key] if step.key and not end.over else list(waiting)
            if "" in provisional and len(stopped) == len(waiting) and not network_reported:
                yield replace(provisional[""], final=True)
            if waiting and not step.key and not end.over:
                self.lost[next(iter(waiting))] = end.reason
            for key in stopped:
                if key in waiting:
                    yield _give_up(waiting.pop(key), provisional.get(key), end)

    def _run(self, keys: tuple[str, ...]) -> Iterator[NetworkEvent | _Ended]:
        """The events of one network; the last one is the end of the process where it does not come through."""
        if time.monotonic() >= self.until:
            yield _Ended("the time was up (--minutes)", over=True)
            return
        start = time.monotonic()
        if self.child is None:
            self.child = ChildProcess(_serve, self.packed, captures_output=True)
            start += START_TIMEOUT_SECONDS
        self.child.send((keys, self.lost))
        while True:
            self.child.read_output()
            try:
                message = self.child.receive(timeout=WATCH_INTERVAL_SECONDS)
            except TimeoutError:
                message = self._exceeded(start)
            except ChildEnded as end:
                killed = end.status == -signal.SIGKILL
                message = _Ended(f"the process that recomputed it {exit_words(end.status)}", limited=killed)
            except UnreadableMessage:
                message = _Ended("the process that recomputed it sent bytes that are not a message", limited=False)
            if isinstance(message, Exception):
                raise message
            if isinstance(message, StepStarted):
                start = time.monotonic()
            if message == DONE:
                return
            if isinstance(message, TrainingProgress):
                message = self._exceeded(start) or message
            if message is not None:
                yield message
            if isinstance(message, _Ended):
                self.close()
                return

    def _exceeded(self, start: float) -> _Ended | None:
        """The end of the process where it exceeds a limit. start: when its step began."""
        now, limits = time.monotonic(), self.limits
        if now >= self.until:
            return _Ended("the time was up (--minutes)", over=True)
        if limits.timeout is not None and now - start > limits.timeout:
            return _Ended(f"it took longer than {limits.timeout:g} s (--timeout)")
        held = (self.child.resident_bytes if self.child is not None else None) or 0
        if limits.memory is not None and held > limits.memory:
            return _Ended(f"its process held {format_bytes(held)}; --memory-limit is {format_bytes(limits.memory)}")
        return None


def _give_up(record: Record, provisional: Compared | None, end: _Ended) -> Compared:
    """The findings on a cell whose step ended early: those on the network from the cache, or that it is unknown."""
    if provisional is None:
        return Compared((comparison.report_unknown(record, end.reason),), record.key, int(end.limited))
    differs = any(finding.outcome == "differs" for finding in provisional.findings)
    return replace(provisional, final=True, unfinished=int(end.limited and not differs))


def _serve(connection: Connection, output: Connection, packed: bytes) -> None:
    """What the process runs: the keys of the cells of a network come in, with those of lost ones; events go out."""
    prepare_child(output.fileno())
    try:
        submission, workspace, folder, memory = pickle.loads(packed)  # of our own parent
        if memory is not None and workspace.device == "cpu":  # CUDA reserves more address space than there is
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        _answer_requests(connection, submission, workspace, Path(folder), memory)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _answer_requests(
    connection: Connection, submission: Submission, workspace: Workspace, folder: Path, memory: int | None
) -> None:
    known = find_installed(workspace.plugins)
    populations = SubmittedPopulations(submission, VerificationSetting(workspace=workspace, known=known, memory=memory))
    records = {record.key: record for record in submission.records}
    while True:
        requested: tuple[tuple[str, ...], dict[str, str]] = connection.recv()
        keys, lost = requested
        try:
            for key, reason in lost.items():
                populations.give_up(resolve_record(records[key], known), reason, folder)
            cells = [resolve_record(records[key], known) for key in keys]
            for event in verify_network(cells, populations, folder):
                connection.send(event)
            connection.send(DONE)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except InvalidInput as error:
            connection.send(error)
        except Exception as error:  # a fault of verification itself
            connection.send(RuntimeError(f"{type(error).__name__}: {error}"))
