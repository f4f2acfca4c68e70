"""Workers: groups of networks trained in processes of their own, one group at a time each."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from sharpbench.core.registry import available
from sharpbench.datasets.dataset import Data, Dataset
from sharpbench.environment import apply_settings
from sharpbench.errors import InvalidInput, one_line
from sharpbench.files import Workspace
from sharpbench.training.population import Population, TrainedRecipe, TrainingEpoch, train_group
from sharpbench.training.recipe import Recipe

PATIENCE = 20.0
"""Seconds that an interrupted worker has for its checkpoint."""
OFTEN = 0.2
"""Seconds between messages about epochs."""

Group = tuple[Recipe, ...]


@dataclass(frozen=True, slots=True)
class GroupLost:
    """A group whose training failed, or whose worker died; the others go on."""

    group: Group
    reason: str


@dataclass(slots=True)
class _Trainer:
    process: BaseProcess
    connection: Connection
    group: Group | None = None


def train_all(
    population: Population, groups: Sequence[Group], workspace: Workspace, *, workers: int
) -> Generator[TrainingEpoch | TrainedRecipe | GroupLost, None, None]:
    """Train those of these groups that are not in the zoo yet, `workers` at a time; events as they come.

    Each worker is a fresh process (spawn) with `workspace.threads` threads. When the iteration is left, by an
    interrupt or otherwise, each keeps a checkpoint and ends. Raises InvalidInput where the cache cannot be written.
    """
    waiting: deque[Group] = deque()
    for group in groups:
        truths = [population.stored(recipe) for recipe in group]
        if None in truths:
            waiting.append(group)
        else:
            yield from (
                TrainedRecipe(recipe, truth, True) for recipe, truth in zip(group, truths, strict=True) if truth
            )
    crew: list[_Trainer] = []
    try:
        while waiting or any(worker.group for worker in crew):
            while waiting and (sum(worker.group is not None for worker in crew) < workers):
                yield from _assigned(crew, waiting.popleft(), workspace, population.data_sha256)
            busy = {worker.connection: worker for worker in crew if worker.group}
            for connection in wait(list(busy)):
                yield from _heard(crew, busy[connection])  # type: ignore[index]  # wait gives what it was given
    finally:
        _dismiss(crew)


def _assigned(crew: list[_Trainer], group: Group, workspace: Workspace, data_sha256: str) -> Iterator[GroupLost]:
    """Give the group to a worker that waits, or to a new one; what cannot be sent to another process is lost."""
    worker = next((each for each in crew if each.group is None), None)
    if worker is None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, workspace, data_sha256), daemon=True)
        process.start()
        theirs.close()
        worker = _Trainer(process, ours)
        crew.append(worker)
    worker.group = group
    try:
        worker.connection.send(group)
    except (BrokenPipeError, ConnectionResetError):  # it died, which `_heard` finds
        return
    except Exception as error:  # whatever pickle raises, for a class that is defined in a function
        worker.group = None
        yield GroupLost(group, one_line(f"{type(error).__name__}: {error}"))


def _heard(crew: list[_Trainer], worker: _Trainer) -> Iterator[TrainingEpoch | TrainedRecipe | GroupLost]:
    """What one message of a worker says; silence for good is a death."""
    group = worker.group or ()
    try:
        kind, content = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join(PATIENCE)
        crew.remove(worker)
        yield GroupLost(group, _death(worker.process.exitcode))
        return
    if kind == "events":
        yield from content
        return
    worker.group = None
    if kind == "invalid":
        raise InvalidInput(content)
    if kind == "lost":
        yield GroupLost(group, content)


def _death(status: int | None) -> str:
    if status is not None and status < 0:
        return f"the worker was killed by {signal.Signals(-status).name}; give the same command again"
    return f"the worker ended with status {status}"


def _dismiss(crew: list[_Trainer]) -> None:
    for worker in crew:
        worker.connection.close()
        if worker.group is not None:
            worker.process.terminate()
    for worker in crew:
        worker.process.join(PATIENCE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _interrupt(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _serve(connection: Connection, workspace: Workspace, data_sha256: str) -> None:
    """The life of a worker: groups come in, events go out, until the other end is closed or SIGTERM comes.

    Ctrl-C reaches it too, as it belongs to the terminal: the parent alone answers it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        apply_settings(workspace.device, workspace.threads)
        for kind in ("models", "datasets", "optimizers"):
            available(kind, workspace.plugins)  # else their classes cannot be received
        loaded: dict[Dataset, Data] = {}
        while True:
            connection.send(_answer(connection, loaded, workspace, data_sha256))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        return


def _answer(
    connection: Connection, loaded: dict[Dataset, Data], workspace: Workspace, data_sha256: str
) -> tuple[str, str | None]:
    """Receive one group and train it; how it ended."""
    try:
        group: Group = connection.recv()
        dataset = group[0].dataset
        if dataset not in loaded:
            loaded[dataset] = dataset.load(workspace.data_dir)
        epochs: dict[Recipe, TrainingEpoch] = {}
        last = 0.0
        for event in train_group(
            group, loaded[dataset], data_sha256, cache=workspace.cache_dir, device=workspace.device
        ):
            if isinstance(event, TrainedRecipe):
                connection.send(("events", [event]))
                continue
            epochs[event.recipe] = event
            if time.monotonic() - last >= OFTEN:
                connection.send(("events", list(epochs.values())))
                epochs, last = {}, time.monotonic()
    except InvalidInput as error:
        return "invalid", str(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # what a network raises, or classes that another process cannot import
        return "lost", one_line(f"{type(error).__name__}: {error}")
    return "done", None
