"""Cluster: a crew of Ray actors, each of which watches a process of its own where it was placed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import Any

from sharpbench.core.record import Record
from sharpbench.errors import InvalidInput, one_line, short
from sharpbench.files import Workspace
from sharpbench.runner.cell import Cell
from sharpbench.runner.engines.base import Limits
from sharpbench.runner.engines.process import ProcessPool, packed_cell
from sharpbench.runner.failures import WorkerDeath

# Keeper: what runs in a Ray actor. It measures nothing itself, and does without torch.


class RayWorker:
    """The crew of one seat, asked for one cell at a time."""

    def __init__(self, workspace: Workspace, limits: Limits) -> None:
        self.crew = ProcessPool(workspace, limits, seats=1)

    def measure(self, packed: bytes, network: str) -> Record | WorkerDeath:
        """The end of a cell, which its network's name and its bytes stand for: its classes may be unknown here."""
        self.crew.send(0, packed, network)
        ((_, outcome),) = self.crew.finished()
        return outcome


PAUSE = 0.2
"""Seconds before an actor that died is replaced, so that a node that is lost is not asked at once."""


class RayPool:
    """A crew of `seats` actors; each reserves a processor for every thread, and `gpus` of CUDA's devices.

    Plugins, cache and data must be found at the same paths on every node. An actor that is lost, with its node or
    alone, is replaced by a fresh one and its cell measured again.
    """

    def __init__(self, workspace: Workspace, limits: Limits, *, seats: int, address: str | None, gpus: float) -> None:
        self.workspace, self.limits, self.seats, self.gpus = workspace, limits, seats, gpus
        self._ray = _imported()
        self._processors = workspace.threads * limits.pieces
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, int] = {}
        self._ours = _connected(self._ray, address, seats * self._processors)
        places = sum(self._fitting(node) for node in self._ray.nodes() if node["Alive"])
        if places < seats:  # the others would wait for ever
            self.close()
            raise InvalidInput(self._too_many(places, "this machine" if address is None else f"the cluster {address}"))

    def _fitting(self, node: Mapping[str, Any]) -> int:
        """How many actors a node has the processors and devices for; more than one never share two devices."""
        there = node["Resources"]
        places = int(there.get("CPU", 0.0) // self._processors)
        if self.gpus:
            devices = int(there.get("GPU", 0.0))
            places = min(places, devices * int(1 / self.gpus) if self.gpus <= 1 else int(devices // self.gpus))
        return places

    def _too_many(self, places: int, where: str) -> str:
        each = f"{self._processors} processors" + (f" and gpus={self.gpus:g}" if self.gpus else "")
        remedy = f"give --workers {places * self.limits.pieces}" if places else "give fewer --threads or --gpus"
        return (
            f"workers={self.seats * self.limits.pieces} measure {self.seats} cells at a time, {each} each, and "
            f"{short(where)} has room for {places}; {remedy}, or have the cluster grow first"
        )

    def begin(self, seat: int, cell: Cell) -> None:
        """See Crew."""
        if seat not in self._actors:
            options = {"num_cpus": self._processors, "num_gpus": self.gpus, "max_restarts": 0, "max_task_retries": 0}
            self._actors[seat] = self._ray.remote(RayWorker).options(**options).remote(self.workspace, self.limits)
        packed = packed_cell(cell)
        if isinstance(packed, WorkerDeath):
            self._calls[self._ray.put(packed)] = seat
        else:
            self._calls[self._actors[seat].measure.remote(packed, cell.network)] = seat

    def finished(self) -> list[tuple[int, Record | WorkerDeath]]:
        """See Crew."""
        ready, _ = self._ray.wait(list(self._calls), num_returns=1)
        seats = [(self._calls.pop(call), call) for call in ready]
        return [(seat, self._outcome(seat, call)) for seat, call in seats]

    def _outcome(self, seat: int, call: Any) -> Record | WorkerDeath:
        try:
            outcome: Record | WorkerDeath = self._ray.get(call)
            return outcome
        except self._ray.exceptions.RayActorError as error:
            self._actors.pop(seat, None)
            time.sleep(PAUSE)
            reason = f"killed: Ray lost its worker ({_text(error)})"
            return WorkerDeath(status="failed", reason=reason, again=True, begun=False)
        except self._ray.exceptions.RayError as error:
            return WorkerDeath(status="failed", reason=f"Ray: {_text(error)}")

    def close(self) -> None:
        """See Crew."""
        for actor in self._actors.values():
            with contextlib.suppress(Exception):  # it may be dead already
                self._ray.kill(actor)
        self._actors.clear()
        self._calls.clear()
        if self._ours:
            self._ray.shutdown()


def _text(error: Exception) -> str:
    return short(one_line(" ".join(str(error).split())))


def _imported() -> Any:
    """Ray, quiet and without reports home."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise InvalidInput(f"engine 'ray' needs the package ray ({error}); pip install 'sharpbench[ray]'") from None
    return ray


def _connected(ray: Any, address: str | None, processors: int) -> bool:
    """Connect to the cluster at `address`, or start one here; whether that is ours to end."""
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": "error"}
    try:
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", num_cpus=processors, include_dashboard=False, **quiet)
    except Exception as error:  # of several kinds, by what cannot be reached
        where = "a local cluster" if address is None else f"address '{short(address)}'"
        raise InvalidInput(f"Ray does not start at {where}: {type(error).__name__}: {_text(error)}") from None
    return True
