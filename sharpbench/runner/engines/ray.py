"""A pool of Ray actors, each of which watches a worker process where Ray placed it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sharpbench.core.record import Record
from sharpbench.errors import InvalidInput, describe_error, one_line, shorten
from sharpbench.files import Workspace
from sharpbench.runner.engines.limits import Limits
from sharpbench.runner.engines.pool import PackedCell, WorkerDeath
from sharpbench.runner.engines.process import ProcessPool, pack_cell

if TYPE_CHECKING:
    from sharpbench.runner.cell import Cell

REPLACE_PAUSE_SECONDS = 0.2
"""Time before an actor that died is replaced, so that a lost node is not asked at once."""


class RayPool:
    """Measures cells in `slots` actors; each reserves a processor for every thread, and `gpus` CUDA devices.

    Plugins, cache and data must be found at the same paths on every node. An actor that is lost, with or without its
    node, is replaced by a new one, and its cell is measured again.
    """

    def __init__(self, workspace: Workspace, limits: Limits, *, slots: int, address: str | None, gpus: float) -> None:
        self.workspace, self.limits, self.slots, self.gpus = workspace, limits, slots, gpus
        self._ray = _import_ray()
        self._processors = workspace.threads * limits.pieces
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, int] = {}
        self._owns_cluster = _connect(self._ray, address, slots * self._processors)
        room = sum(self._room_on(node) for node in self._ray.nodes() if node["Alive"])
        if room < slots:  # the other actors would wait for ever
            self.close()
            raise InvalidInput(self._too_many(room, "this machine" if address is None else f"the cluster {address}"))

    def start(self, slot: int, cell: Cell) -> None:
        """See WorkerPool."""
        if slot not in self._actors:
            options = {"num_cpus": self._processors, "num_gpus": self.gpus, "max_restarts": 0, "max_task_retries": 0}
            self._actors[slot] = self._ray.remote(RayWorker).options(**options).remote(self.workspace, self.limits)
        packed = pack_cell(cell)
        if isinstance(packed, WorkerDeath):
            self._calls[self._ray.put(packed)] = slot
        else:
            self._calls[self._actors[slot].measure.remote(packed)] = slot

    def wait(self) -> list[tuple[int, Record | WorkerDeath]]:
        """See WorkerPool."""
        ready, _ = self._ray.wait(list(self._calls), num_returns=1)
        return [(slot, self._outcome(slot, call)) for slot, call in [(self._calls.pop(call), call) for call in ready]]

    def close(self) -> None:
        """See WorkerPool."""
        for actor in self._actors.values():
            with contextlib.suppress(Exception):  # it may be dead already
                self._ray.kill(actor)
        self._actors.clear()
        self._calls.clear()
        if self._owns_cluster:
            self._ray.shutdown()

    def _room_on(self, node: Mapping[str, Any]) -> int:
        """The number of actors that a node has processors and devices for; actors never share two devices."""
        resources = node["Resources"]
        room = int(resources.get("CPU", 0.0) // self._processors)
        if self.gpus:
            devices = int(resources.get("GPU", 0.0))
            room = min(room, devices * int(1 / self.gpus) if self.gpus <= 1 else int(devices // self.gpus))
        return room

    def _too_many(self, room: int, where: str) -> str:
        each = f"{self._processors} processors" + (f" and gpus={self.gpus:g}" if self.gpus else "")
        remedy = f"give --workers {room * self.limits.pieces}" if room else "give fewer --threads or --gpus"
        return (
            f"workers={self.slots * self.limits.pieces} measure {self.slots} cells at a time, {each} each, and "
            f"{shorten(where)} has room for {room}; {remedy}, or have the cluster grow first"
        )

    def _outcome(self, slot: int, call: Any) -> Record | WorkerDeath:
        try:
            outcome: Record | WorkerDeath = self._ray.get(call)
            return outcome
        except self._ray.exceptions.RayActorError as error:
            self._actors.pop(slot, None)
            time.sleep(REPLACE_PAUSE_SECONDS)
            reason = f"killed: Ray lost its worker ({_quote(error)})"
            return WorkerDeath(status="failed", reason=reason, retry=True, started=False)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error  # what the actor raised; Ray's own text begins with colours
            return WorkerDeath(status="failed", reason=f"Ray: {describe_error(cause)}")


class RayWorker:
    """What runs in a Ray actor: a pool of one slot, which measures one cell at a time."""

    def __init__(self, workspace: Workspace, limits: Limits) -> None:
        self.pool = ProcessPool(workspace, limits, slots=1)

    def measure(self, packed: PackedCell) -> Record | WorkerDeath:
        """The outcome of a cell, which arrives packed: this process may be unable to import its classes."""
        self.pool.start_packed(0, packed)
        ((_, outcome),) = self.pool.wait()
        return outcome


def _quote(error: Exception) -> str:
    return shorten(one_line(" ".join(str(error).split())))


def _import_ray() -> Any:
    """The module ray, quiet and without usage reports."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise InvalidInput(f"engine 'ray' needs the package ray ({error}); pip install 'sharpbench[ray]'") from None
    return ray


def _connect(ray: Any, address: str | None, processors: int) -> bool:
    """Connect to the cluster at `address`, or start one here; whether this process must shut it down."""
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": "error"}
    try:
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", num_cpus=processors, include_dashboard=False, **quiet)
    except Exception as error:  # of several kinds, by what cannot be reached
        where = "a local cluster" if address is None else f"address '{shorten(address)}'"
        raise InvalidInput(f"Ray does not start at {where}: {type(error).__name__}: {_quote(error)}") from None
    return True
