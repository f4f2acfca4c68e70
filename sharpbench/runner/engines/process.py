"""A pool of worker processes on this machine, with their time, memory, prints and deaths watched."""

from __future__ import annotations

import pickle
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from sharpbench.child_output import CapturedOutput, UnreadableMessage
from sharpbench.core.installed_plugins import KINDS, installed_plugins
from sharpbench.core.record import MAX_CAUSE_CHARS, Record
from sharpbench.errors import truncate
from sharpbench.files import Workspace
from sharpbench.processes import END_TIMEOUT_SECONDS, ChildEnded, ChildProcess, preload_modules, start_server
from sharpbench.runner.child_processes import kill_tree
from sharpbench.runner.engines.limits import Limits, format_bytes
from sharpbench.runner.engines.pool import (
    DIVERGED,
    STARTED,
    UNREADABLE,
    Answer,
    PackedCell,
    WorkerDeath,
    WorkerSpec,
    worker_death,
)

if TYPE_CHECKING:
    from sharpbench.runner.cell import Cell

START_TIMEOUT_SECONDS = 600.0
"""Time, in addition to the cell's limit, that a process has to start and to load a network."""
MAX_WAIT_SECONDS = 3600.0
"""The longest wait at a time; the system knows none above 24 days."""
MEMORY_INTERVAL_SECONDS = 0.05
"""Time between looks at the memory of processes, where it is limited."""
GROUP_TIMEOUT_SECONDS = 5.0
"""Time that the others of a process group have for their answer when one has failed."""
MAX_GROWTH_BYTES = 2**30
"""A process that has grown by more between two networks is replaced."""
PRELOADED = (
    "sharpbench.runner.engines.worker",
    "torch._dynamo",
    "torch._functorch.aot_autograd",
)
"""What every worker has imported at its start: torch, and what torch imports to differentiate."""


class ProcessPool:
    """Worker processes that measure `slots` cells at a time, each cell by one process or by `limits.pieces` of them.

    A server process starts them in which torch is imported already, so a new one costs less than a second. A process
    that died, was ended, or ran out of memory is replaced; the others are used again.
    """

    def __init__(self, workspace: Workspace, limits: Limits, *, slots: int) -> None:
        self.workspace, self.limits, self.slots = workspace, limits, slots
        self._groups: dict[int, _WorkerGroup] = {}
        self._refused: list[tuple[int, Record | WorkerDeath]] = []
        preload_modules([*PRELOADED, *builtin_modules()])

    def start_server(self) -> None:
        """Start the server process now, so that it is ready when the first cell starts."""
        start_server()

    def start(self, slot: int, cell: Cell) -> None:
        """See WorkerPool."""
        packed = pack_cell(cell)
        if isinstance(packed, WorkerDeath):
            self._refused.append((slot, packed))
        else:
            self.start_packed(slot, packed)

    def start_packed(self, slot: int, packed: PackedCell) -> None:
        """Start a cell that is packed already."""
        group = self._groups.get(slot)
        if group is not None and not group.can_take(packed.network):
            self._groups.pop(slot).close()
            group = None
        if group is None:
            group = self._groups[slot] = self._start_group()
        group.network, group.busy = packed.network, True
        for worker in group.workers:
            worker.start(packed)

    def wait(self) -> list[tuple[int, Record | WorkerDeath]]:
        """See WorkerPool."""
        while True:
            ended, self._refused = self._refused, []
            for slot, group in [(slot, group) for slot, group in self._groups.items() if group.busy]:
                outcome = group.outcome(self.limits)
                if outcome is not None:
                    ended.append((slot, outcome))
                    group.busy = False
                    if not group.usable:
                        self._groups.pop(slot).close()
            if ended:
                return ended
            self._wait_for_change()

    def close(self) -> None:
        """See WorkerPool."""
        for group in self._groups.values():
            group.close()
        self._groups.clear()

    def _start_group(self) -> _WorkerGroup:
        size = self.limits.pieces
        meeting_file = Path(tempfile.mkdtemp(prefix="sharpbench-")) / "meeting" if size > 1 else None
        specs = [
            WorkerSpec(
                workspace=self.workspace,
                memory=self.limits.memory,
                meeting_file=meeting_file,
                rank=rank,
                size=size,
            )
            for rank in range(size)
        ]
        workers = [_Worker(ChildProcess(_serve, spec, captures_output=True)) for spec in specs]
        return _WorkerGroup(workers, meeting_file)

    def _wait_for_change(self) -> None:
        """Wait until a worker sends or prints something or ends, or until a limit must be checked."""
        busy = [worker for group in self._groups.values() if group.busy for worker in group.workers]
        if not busy:
            raise RuntimeError("no cell was started")
        changes: list[Connection | int] = []
        for worker in busy:
            changes += [*(worker.child.signs_of_life if worker.answer is None else ()), *worker.child.output]
        now, limits = time.monotonic(), self.limits
        times = [MAX_WAIT_SECONDS, *([MEMORY_INTERVAL_SECONDS] if limits.memory is not None else [])]
        times += [max(0.0, worker.deadline(limits) - now) for worker in busy if limits.timeout is not None]
        times += [GROUP_TIMEOUT_SECONDS / 5] if any(worker.answer for worker in busy) else []
        wait(changes, min(times))
        for worker in busy:
            worker.child.read_output()


def pack_cell(cell: Cell) -> PackedCell | WorkerDeath:
    """The cell as bytes for another process, or why it cannot be sent."""
    try:
        return PackedCell(key=cell.key, network=cell.network, content=pickle.dumps(cell))
    except Exception as error:  # whatever pickle raises, for a class that is defined in a function
        reason = f"engine inline measures it in this process: {type(error).__name__}: {error}"
        return WorkerDeath(status="failed", reason=truncate(reason, MAX_CAUSE_CHARS))


def builtin_modules() -> list[str]:
    """The modules of sharpbench's own measures, models, data sets, optimisers and cohorts.

    Those of other packages are imported by the workers themselves: their import may raise.
    """
    points = [point for kind in KINDS for point in installed_plugins().points[kind]]
    return [point.value for point in points if point.package == "sharpbench"]


def _serve(connection: Connection, output: Connection, spec: WorkerSpec) -> None:
    """What a worker process runs."""
    from sharpbench.runner.engines.worker import serve  # it needs torch, which a process that only watches does not

    serve(connection, output, spec)


@dataclass(slots=True, eq=False)
class _Worker:
    """One process, and the cell that it measures.

    since: when the cell, its measure or its answer came, in seconds of the monotonic clock. key: of the cell.
    started: whether its measure was called. reusable: whether it is as it was before the cell. first_bytes: the memory
    that the process held after its first cell.
    """

    child: ChildProcess
    since: float = 0.0
    key: str = ""
    started: bool = False
    answer: Record | WorkerDeath | None = None
    reusable: bool = True
    first_bytes: int | None = None

    def start(self, packed: PackedCell) -> None:
        """Send it a cell."""
        self.child.read_output()
        self.child.printed = CapturedOutput()
        self.since, self.key, self.started, self.answer = time.monotonic(), packed.key, False, None
        self.child.send(packed)

    def deadline(self, limits: Limits) -> float:
        """When its time is over."""
        return self.since + (limits.timeout or 0.0) + (0.0 if self.started else START_TIMEOUT_SECONDS)

    def receive(self, limits: Limits) -> Record | WorkerDeath | None:
        """Its answer, or its end; None where it still measures."""
        try:
            while (message := self.child.receive(timeout=0)) is not None:
                if isinstance(message, Answer):
                    if (message.key, message.pid) == (self.key, self.child.pid):
                        break
                elif isinstance(message, str) and message == STARTED:
                    self.started, self.since = True, time.monotonic()
                else:
                    raise UnreadableMessage("the worker sent what is not an answer")
        except TimeoutError:
            return self._exceeded(limits)
        except UnreadableMessage:
            return UNREADABLE
        except ChildEnded as end:
            if end.status is None:
                return WorkerDeath(status="failed", reason="the process that measured it went silent")
            return replace(worker_death(end.status), started=self.started)
        self.since, self.reusable = time.monotonic(), message.reusable
        self.first_bytes = self.first_bytes or self.child.resident_bytes
        outcome: Record | WorkerDeath = message.outcome
        return outcome

    def _exceeded(self, limits: Limits) -> WorkerDeath | None:
        """The death of a worker that exceeds a limit; None where it exceeds none."""
        if limits.timeout is not None and time.monotonic() >= self.deadline(limits):
            late = f"took longer than {limits.timeout:g} s (--timeout)"
            reason = late if self.started else f"its network was not ready: {late}"
            return WorkerDeath(status="timeout", reason=reason)
        if limits.memory is not None and (held := self.child.resident_bytes or 0) > limits.memory:
            limit = f"--memory-limit is {format_bytes(limits.memory)}"
            return WorkerDeath(status="oom", reason=f"out of memory: its process held {format_bytes(held)}; {limit}")
        return None

    @property
    def failed(self) -> bool:
        """Whether it has answered without a value."""
        return isinstance(self.answer, WorkerDeath) or (self.answer is not None and self.answer.status != "ok")

    @property
    def diverged(self) -> bool:
        """Whether it failed because of what another process of its group did."""
        return self.answer is not None and DIVERGED in str(self.answer.reason)

    @property
    def may_be_explained(self) -> bool:
        """Whether the others may still fail in the same way, or say why it failed; after a death they cannot."""
        recent = time.monotonic() - self.since < GROUP_TIMEOUT_SECONDS
        return recent and (isinstance(self.answer, Record) or self.diverged)

    def close(self) -> None:
        """Let a worker that waits for a cell end by itself, and kill any other with what its measure started."""
        waits = isinstance(self.answer, Record) and self.reusable
        if not waits and self.child.is_alive and self.child.pid is not None:
            kill_tree(self.child.pid)
        self.child.close(grace_seconds=END_TIMEOUT_SECONDS if waits else 0.0)


@dataclass(slots=True, eq=False)
class _WorkerGroup:
    """The workers of one slot; more than one where they divide the batches."""

    workers: Sequence[_Worker]
    meeting_file: Path | None
    network: str | None = None
    busy: bool = False

    @property
    def usable(self) -> bool:
        """Whether it can measure another cell: all have answered alike, are as before, and none ran out of memory."""
        statuses = {worker.answer.status if isinstance(worker.answer, Record) else None for worker in self.workers}
        reusable = all(worker.reusable for worker in self.workers)
        return reusable and len(statuses) == 1 and not statuses & {None, "oom"}

    def can_take(self, network: str) -> bool:
        """Whether all its processes live and, where the network is another one, have not kept much memory."""
        if not all(worker.child.is_alive for worker in self.workers):
            return False
        if self.network == network:
            return True
        for worker in self.workers:
            now = worker.child.resident_bytes
            if now is not None and now - (worker.first_bytes or now) > MAX_GROWTH_BYTES:
                return False
        return True

    def outcome(self, limits: Limits) -> Record | WorkerDeath | None:
        """What became of its cell; None where it is still measured."""
        for worker in self.workers:
            if worker.answer is None:
                worker.answer = worker.receive(limits)
        failed = [worker for worker in self.workers if worker.failed]
        chosen = min(failed, key=lambda worker: worker.diverged, default=None)
        waiting = any(worker.answer is None for worker in self.workers)
        if waiting and (chosen is None or chosen.may_be_explained):
            return None
        chosen = chosen or self.workers[0]
        chosen.child.read_output()
        answer = chosen.answer
        return None if answer is None else replace(answer, printed=chosen.child.printed.text() or answer.printed)

    def close(self) -> None:
        """End its processes."""
        for worker in self.workers:
            worker.close()
        if self.meeting_file is not None:
            shutil.rmtree(self.meeting_file.parent, ignore_errors=True)
