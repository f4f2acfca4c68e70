"""Processes: worker processes that measure, watched: their time, their memory, what they print, and their deaths."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from sharpbench.core.record import MAX_CAUSE_CHARS, Record
from sharpbench.core.registry import KINDS, entry_points, package_of
from sharpbench.errors import cut
from sharpbench.files import Workspace
from sharpbench.runner.engines.base import APART, BEGUN, Limits, WorkerSpec, format_bytes
from sharpbench.runner.engines.worker import serve
from sharpbench.runner.failures import CapturedOutput, WorkerDeath, death_of

if TYPE_CHECKING:
    from sharpbench.runner.cell import Cell

OPENING = 600.0
"""Seconds, beside the timeout, that a process has for its start and to make a network ready."""
LOOKS = 0.05
"""Seconds between looks at the memory of processes, where it is limited."""
GRACE = 5.0
"""Seconds that the others of a team have for their answer, when one has failed."""
PATIENCE = 5.0
"""Seconds for a process to end that has been told to."""
IMPORTED = ("sharpbench.runner.engines.worker", "sklearn.datasets")
"""What the server process imports, so that a worker has it: torch with the first, the embedded data with the second."""
GROWN = 2**30
"""Bytes by which a process may have grown before it is replaced, between two networks."""


@dataclass(slots=True, eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    output: Connection
    rank: int
    printed: CapturedOutput = field(default_factory=CapturedOutput)
    since: float = 0.0
    begun: bool = False
    answer: Record | WorkerDeath | None = None
    resident: int | None = None

    def drain(self) -> None:
        """Take in what was printed."""
        with contextlib.suppress(BlockingIOError, OSError):
            while some := os.read(self.output.fileno(), 2**16):
                self.printed.add(some)

    def end(self) -> None:
        """One that waits for a cell ends by itself; any other is killed."""
        idle = self.answer is not None and not isinstance(self.answer, WorkerDeath)
        self.connection.close()
        if idle:
            self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
        self.process.join(PATIENCE)
        self.output.close()


@dataclass(slots=True, eq=False)
class _WorkerTeam:
    """The workers of one seat; more than one where they divide the batches."""

    workers: Sequence[_Worker]
    place: Path | None
    network: str | None = None
    busy: bool = False

    @property
    def sound(self) -> bool:
        """Whether it can go on: all have answered, alike, and none ran out of memory."""
        ways = {answer.status if isinstance(answer, Record) else None for answer in self.answers}
        return len(ways) == 1 and not ways & {None, "oom"}

    @property
    def answers(self) -> list[Record | WorkerDeath | None]:
        """What each has said of the cell."""
        return [worker.answer for worker in self.workers]

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
        if self.place is not None:
            shutil.rmtree(self.place.parent, ignore_errors=True)


class ProcessPool:
    """A crew of processes: `seats` cells at a time, each by one process, or by `limits.pieces` of them.

    They are started by a server process in which torch is imported already, so that a fresh one costs no second. A
    process that died, was ended, or ran out of memory is replaced by a fresh one; the others are used again.
    """

    def __init__(self, workspace: Workspace, limits: Limits, *, seats: int) -> None:
        self.workspace, self.limits, self.seats = workspace, limits, seats
        self._teams: dict[int, _WorkerTeam] = {}
        self._refused: list[tuple[int, Record | WorkerDeath]] = []
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*IMPORTED, *own_modules()])

    def warm(self) -> None:
        """Start the server process now, so that it is ready when a cell begins."""
        from multiprocessing.forkserver import ensure_running

        ensure_running()

    def begin(self, seat: int, cell: Cell) -> None:
        """See Crew."""
        packed = packed_cell(cell)
        if isinstance(packed, WorkerDeath):
            self._refused.append((seat, packed))
        else:
            self.send(seat, packed, cell.network)

    def send(self, seat: int, packed: bytes, network: str) -> None:
        """Begin a cell that is packed already."""
        team = self._teams.get(seat)
        if team is not None and not self._fit(team, network):
            self._teams.pop(seat).end()
            team = None
        if team is None:
            team = self._teams[seat] = self._started()
        team.network, team.busy = network, True
        for worker in team.workers:
            worker.drain()
            worker.printed = CapturedOutput()
            worker.since, worker.begun, worker.answer = time.monotonic(), False, None
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died, which `finished` finds
                worker.connection.send_bytes(packed)

    def _fit(self, team: _WorkerTeam, network: str) -> bool:
        """Whether the team lives, and between networks has not kept much memory."""
        if not all(worker.process.is_alive() for worker in team.workers):
            return False
        if team.network == network:
            return True
        for worker in team.workers:
            now = _resident(worker.process.pid)
            if now is not None and now - (worker.resident or now) > GROWN:
                return False
        return True

    def _started(self) -> _WorkerTeam:
        size = self.limits.pieces
        place = Path(tempfile.mkdtemp(prefix="sharpbench-")) / "meeting" if size > 1 else None
        return _WorkerTeam([self._worker(rank, size, place) for rank in range(size)], place)

    def _worker(self, rank: int, size: int, place: Path | None) -> _Worker:
        ours, theirs = self._context.Pipe()
        read, write = self._context.Pipe(duplex=False)
        duty = WorkerSpec(workspace=self.workspace, memory=self.limits.memory, place=place, rank=rank, size=size)
        process = self._context.Process(target=serve, args=(theirs, write, duty), daemon=True)
        process.start()
        theirs.close()
        write.close()
        os.set_blocking(read.fileno(), False)
        return _Worker(process, ours, read, rank)

    def finished(self) -> list[tuple[int, Record | WorkerDeath]]:
        """See Crew."""
        while True:
            ended, self._refused = self._refused, []
            for seat, team in [(seat, team) for seat, team in self._teams.items() if team.busy]:
                outcome = self._outcome(team)
                if outcome is not None:
                    ended.append((seat, outcome))
                    team.busy = False
                    if not team.sound:
                        self._teams.pop(seat).end()
            if ended:
                return ended
            self._wait()

    def _wait(self) -> None:
        """Until something is heard of a worker, or it is time to look."""
        busy = [worker for team in self._teams.values() if team.busy for worker in team.workers]
        if not busy:
            raise RuntimeError("no cell was begun")
        heard = [worker.connection for worker in busy if worker.answer is None]
        ends = [worker.process.sentinel for worker in busy if worker.answer is None]
        now, limits = time.monotonic(), self.limits
        times = [LOOKS] if limits.memory is not None else []
        times += [max(0.0, self._until(worker) - now) for worker in busy if limits.timeout is not None]
        times += [GRACE / 5] if any(worker.answer for worker in busy) else []
        prints = [worker.output for worker in busy if not worker.output.closed and not _ended(worker)]
        wait([*heard, *ends, *prints], min(times, default=None))
        for worker in busy:
            worker.drain()

    def _until(self, worker: _Worker) -> float:
        """When the time of the worker is over."""
        return worker.since + (self.limits.timeout or 0.0) + (0.0 if worker.begun else OPENING)

    def _outcome(self, team: _WorkerTeam) -> Record | WorkerDeath | None:
        """What became of the cell that the team measures; None: it is going on."""
        for worker in team.workers:
            if worker.answer is None:
                worker.answer = self._heard(worker)
        bad = min((worker for worker in team.workers if _bad(worker.answer)), key=_apart, default=None)
        chosen = bad or team.workers[0]
        if None in team.answers and (bad is None or _waits(bad)):
            return None
        chosen.drain()
        answer = chosen.answer
        return None if answer is None else replace(answer, printed=chosen.printed.text())

    def _heard(self, worker: _Worker) -> Record | WorkerDeath | None:
        """What the worker says, or its end; None: nothing yet."""
        alive = worker.process.is_alive()
        try:
            while worker.connection.poll():
                said = worker.connection.recv()
                if said != BEGUN:
                    worker.since = time.monotonic()
                    worker.resident = worker.resident or _resident(worker.process.pid)
                    return said  # type: ignore[no-any-return]
                worker.begun, worker.since = True, time.monotonic()
        except (EOFError, ConnectionResetError):
            worker.process.join(PATIENCE)
            alive = worker.process.is_alive()
            if alive:  # it closed its end, and goes on
                return WorkerDeath(status="failed", reason="the process that measured it went silent")
        if not alive:
            return replace(death_of(worker.process.exitcode), begun=worker.begun)
        return self._over(worker)

    def _over(self, worker: _Worker) -> WorkerDeath | None:
        """Whether a limit is passed."""
        timeout, memory = self.limits.timeout, self.limits.memory
        if timeout is not None and time.monotonic() >= self._until(worker):
            late = f"took longer than {timeout:g} s (--timeout)"
            return WorkerDeath(status="timeout", reason=late if worker.begun else f"its network was not ready: {late}")
        if memory is not None and (held := _resident(worker.process.pid) or 0) > memory:
            reason = f"out of memory: its process held {format_bytes(held)}; --memory-limit is {format_bytes(memory)}"
            return WorkerDeath(status="oom", reason=reason)
        return None

    def close(self) -> None:
        """See Crew."""
        for team in self._teams.values():
            team.end()
        self._teams.clear()


def packed_cell(cell: Cell) -> bytes | WorkerDeath:
    """The cell as bytes for another process, or why it cannot be sent."""
    try:
        return pickle.dumps(cell)
    except Exception as error:  # whatever pickle raises, for a class that is defined in a function
        reason = f"engine inline measures it in this process: {type(error).__name__}: {error}"
        return WorkerDeath(status="failed", reason=cut(reason, MAX_CAUSE_CHARS))


def own_modules() -> list[str]:
    """The modules of our own that hold measures, models and the like; what others wrote is imported by workers."""
    points = [point for kind in KINDS for point in entry_points(kind)]
    return [point.module for point in points if package_of(point) == "sharpbench"]


def _bad(answer: Record | WorkerDeath | None) -> bool:
    return isinstance(answer, WorkerDeath) or (answer is not None and answer.status != "ok")


def _apart(worker: _Worker) -> bool:
    """Whether it failed for what another did."""
    return worker.answer is not None and APART in str(worker.answer.reason)


def _waits(bad: _Worker) -> bool:
    """Whether the others may still say the same as one that has failed, or why it did; after a death they cannot."""
    return (isinstance(bad.answer, Record) or _apart(bad)) and time.monotonic() - bad.since < GRACE


def _ended(worker: _Worker) -> bool:
    """Whether no more can come of what it prints."""
    return not worker.process.is_alive()


def _resident(pid: int | None) -> int | None:
    """The memory that a process holds, in bytes, where the system tells."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return None
