"""Training in worker processes: each trains one group of networks at a time."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from sharpbench.child_output import UnreadableMessage
from sharpbench.core.registry import available
from sharpbench.environment import apply_settings
from sharpbench.errors import InvalidInput, one_line
from sharpbench.files import Workspace
from sharpbench.processes import ChildEnded, ChildProcess, exit_words, was_killed
from sharpbench.training.examples import LoadedData
from sharpbench.training.population import Population, TrainedRecipe, TrainingEpoch, train_group
from sharpbench.training.recipe import Recipe

CHECKPOINT_TIMEOUT_SECONDS = 20.0
"""Time that an interrupted worker has to write its checkpoint."""
MAX_RETRIES = 3
"""How often a group is trained again whose worker was killed; it goes on from the last checkpoint."""
EPOCH_INTERVAL_SECONDS = 0.2
"""Time between messages about epochs."""

Group = tuple[Recipe, ...]


@dataclass(frozen=True, slots=True)
class GroupLost:
    """Progress: a group whose training failed, or whose worker died; the others go on."""

    group: Group
    reason: str


@dataclass(frozen=True, slots=True)
class _WorkerKilled:
    """A worker that was ended from outside, or whose pipe something else wrote to."""

    group: Group
    reason: str


TrainingEvent = TrainingEpoch | TrainedRecipe | GroupLost


def train_all(
    population: Population, groups: Sequence[Group], workspace: Workspace, *, workers: int
) -> Generator[TrainingEvent, None, None]:
    """Train the groups that are not in the zoo yet, `workers` at a time; events as they come.

    A group whose worker is killed is trained again, MAX_RETRIES times, from its last checkpoint. Each worker is a fresh
    process (spawn) with `workspace.threads` threads. When the iteration is left, by an
    interrupt or otherwise, each worker writes a checkpoint and ends.

    Raises:
        InvalidInput: where the cache cannot be written.
    """
    waiting: deque[Group] = deque()
    for group in groups:
        results = [population.stored_result(recipe) for recipe in group]
        if None in results:
            waiting.append(group)
        else:
            yield from (
                TrainedRecipe(recipe, result, True) for recipe, result in zip(group, results, strict=True) if result
            )
    pool: list[_Trainer] = []
    kills: Counter[Group] = Counter()
    trained: set[Recipe] = set()
    try:
        while waiting or any(trainer.group for trainer in pool):
            while waiting and sum(trainer.group is not None for trainer in pool) < workers:
                yield from _assign(pool, waiting.popleft(), workspace, population.data_sha256)
            busy = [trainer for trainer in pool if trainer.group]
            wait([sign for trainer in busy for sign in trainer.child.signs_of_life])
            for event in (event for trainer in busy for event in _receive(pool, trainer)):
                if isinstance(event, _WorkerKilled):
                    kills[event.group] += 1
                    if kills[event.group] <= MAX_RETRIES:
                        waiting.append(event.group)
                    else:
                        yield GroupLost(event.group, f"{event.reason}, {kills[event.group]} times")
                elif not isinstance(event, TrainedRecipe) or event.recipe not in trained:
                    yield event
                    if isinstance(event, TrainedRecipe):
                        trained.add(event.recipe)
    finally:
        _end_workers(pool)


@dataclass(slots=True, eq=False)
class _Trainer:
    """A worker process, and the group that it trains."""

    child: ChildProcess
    group: Group | None = None


def _assign(pool: list[_Trainer], group: Group, workspace: Workspace, data_sha256: str) -> Iterator[GroupLost]:
    """Give the group to a worker that waits, or to a new one; a group that cannot be sent is lost."""
    trainer = next((each for each in pool if each.group is None), None)
    if trainer is None:
        trainer = _Trainer(ChildProcess(_serve, workspace, data_sha256, method="spawn"))
        pool.append(trainer)
    trainer.group = group
    try:
        trainer.child.send(group)
    except Exception as error:  # whatever pickle raises, for a class that is defined in a function
        trainer.group = None
        yield GroupLost(group, one_line(f"{type(error).__name__}: {error}"))


def _receive(pool: list[_Trainer], trainer: _Trainer) -> Iterator[TrainingEvent | _WorkerKilled]:
    """The events of one message of a worker, if it sent one, or of its death."""
    group = trainer.group or ()
    try:
        kind, content = trainer.child.receive(timeout=0)
    except TimeoutError:
        return
    except (ChildEnded, UnreadableMessage) as end:
        pool.remove(trainer)
        trainer.child.close()
        if isinstance(end, UnreadableMessage):
            yield _WorkerKilled(group, "the worker sent bytes that are not a message")
        elif was_killed(end.status):
            yield _WorkerKilled(group, f"the worker {exit_words(end.status)}")
        else:
            yield GroupLost(group, f"the worker {exit_words(end.status)}")
        return
    if kind == "events":
        yield from content
        return
    trainer.group = None
    if kind == "invalid":
        raise InvalidInput(content)
    if kind == "lost":
        yield GroupLost(group, content)


def _end_workers(pool: list[_Trainer]) -> None:
    """End the workers; those that train write their checkpoints at the same time."""
    for trainer in pool:
        trainer.child.hang_up()
        if trainer.group is not None:
            trainer.child.terminate()
    for trainer in pool:
        trainer.child.close(grace_seconds=CHECKPOINT_TIMEOUT_SECONDS)


def _interrupt(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _serve(connection: Connection, workspace: Workspace, data_sha256: str) -> None:
    """What a worker process runs: groups come in, events go out, until the pipe is closed or SIGTERM comes.

    Ctrl-C is ignored, as the terminal sends it to all processes and only the parent answers it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        apply_settings(workspace.device, workspace.threads)
        for kind in ("models", "datasets", "optimizers"):
            available(kind, workspace.plugins)  # otherwise their classes cannot be received
        loaded = LoadedData(workspace.data_dir)
        while True:
            connection.send(_train_received(connection, loaded, workspace, data_sha256))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except KeyboardInterrupt:  # the checkpoint is written; end as SIGTERM ends a process
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _train_received(
    connection: Connection, loaded: LoadedData, workspace: Workspace, data_sha256: str
) -> tuple[str, str | None]:
    """Receive one group and train it; how it ended, and why."""
    try:
        group: Group = connection.recv()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # classes that this process cannot import
        return "lost", one_line(f"{type(error).__name__}: {error}")
    try:
        data = loaded.load(group[0])
        epochs: dict[Recipe, TrainingEpoch] = {}
        sent = 0.0
        for event in train_group(group, data, data_sha256, cache=workspace.cache_dir, device=workspace.device):
            if isinstance(event, TrainedRecipe):
                connection.send(("events", [*epochs.values(), event]))
                epochs = {}
                continue
            epochs[event.recipe] = event
            if time.monotonic() - sent >= EPOCH_INTERVAL_SECONDS:
                connection.send(("events", list(epochs.values())))
                epochs, sent = {}, time.monotonic()
    except InvalidInput as error:
        return "invalid", str(error)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # what a network raises, or classes that another process cannot import
        return "lost", one_line(f"{type(error).__name__}: {error}")
    return "done", None
