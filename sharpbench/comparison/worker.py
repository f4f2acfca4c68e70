"""Worker: the life of a contestant's process; one call after the other, each asked for by the parent."""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from sharpbench.appraisal import fate
from sharpbench.comparison.heap import kept_heap
from sharpbench.comparison.network import opened
from sharpbench.comparison.oracle import diagonal_error, truth
from sharpbench.comparison.process import Job
from sharpbench.contract import Measure
from sharpbench.engines.worker import prepare
from sharpbench.environment import environment, settle
from sharpbench.evaluation import measure
from sharpbench.models.file import from_word
from sharpbench.models.model import Model
from sharpbench.registry import KINDS, offers
from sharpbench.selection import select_one
from sharpbench.subject import Subject
from sharpbench.timing import WAITED, contention, peak_bytes, scheduled, timed

Answer = dict[str, Any]


@dataclass(slots=True)
class Said:
    """What one call says: a value, or a diagonal; and whether random numbers made it."""

    value: float | None = None
    diagonal: Mapping[str, Tensor] | None = None
    stochastic: bool = False


def serve(connection: Connection, job: Job) -> None:
    """Questions come in as lines of JSON, answers go out, until the other end is closed."""
    with open(os.devnull, "wb") as nowhere:
        prepare(nowhere.fileno())
        kept = kept_heap()
        try:
            settle(job.device, job.threads)
            desk = Desk(job)
            _send(connection, {"ready": True, "environment": {**environment(job.device), "heap kept": kept}})
            while True:
                _send(connection, _answer(desk, json.loads(connection.recv_bytes())))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except BaseException as error:  # a network or a plugin that cannot be opened here
            _send(connection, _lost(error))


def _send(connection: Connection, answer: Answer) -> None:
    connection.send_bytes(json.dumps(answer).encode())


def _answer(desk: Desk, question: Answer) -> Answer:
    try:
        match question.pop("do"):
            case "oracle":
                return desk.oracle(**question)
            case _:
                return desk.call(**question)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except BaseException as error:  # a contestant that raises, or leaves Python, costs itself alone
        return _lost(error)


def _lost(error: BaseException) -> Answer:
    status, reason = fate(error)
    return {"status": status, "reason": reason}


class Desk:
    """A contestant with its subject."""

    def __init__(self, job: Job) -> None:
        self.before = frozenset(sys.modules)
        for kind in KINDS:
            offers(kind, job.plugins)
        model: Model = from_word(job.model) or select_one(job.model, offers("models").classes, kind="model")
        self.job = job
        self.subject = opened(model, job.file, outputs=job.outputs, dtype=job.dtype, device=job.device, batch_size=None)
        self.says = _speaker(job)

    def call(self, *, batch: int, seed: int, warm: bool, memory: bool, oracle: str | None) -> Answer:
        """One timed call, where `warm` after one that is not; of a diagonal with its error against that in `oracle`.

        memory: also by how much it raises the peak; the heap is given back before, so that it takes longer.
        """
        subject = replace(self.subject, batch_size=batch)
        device = subject.inputs.device
        if warm:
            self.says(replace(subject), seed)
        said, seconds = Said(), 0.0

        def once() -> None:
            nonlocal said
            said = self.says(subject, seed)

        def clocked() -> None:
            nonlocal seconds
            seconds = timed(once, device)

        gc.collect()
        peak = None
        before = scheduled()
        if memory:
            peak = peak_bytes(clocked, device)
        else:
            clocked()
        contended = contention(before, scheduled()) > WAITED
        answer: Answer = {"seconds": seconds, "contended": contended, "peak_bytes": peak, "stochastic": said.stochastic}
        numbers = {"value": said.value} if said.diagonal is None else _judged(said.diagonal, oracle)
        del said
        return {**answer, **numbers, "resident": _resident(), "imported": self._imported()}

    def _imported(self) -> list[str]:
        """The top-level modules that were not there when the process started."""
        return sorted({name.partition(".")[0] for name in set(sys.modules) - self.before})

    def oracle(self, *, quick: bool, path: str) -> Answer:
        """The truth; a diagonal goes to the file `path`."""
        found = truth(self.subject, self.job.quantity, quick=quick)
        if found.diagonal is not None:
            held = {name: value.detach().cpu().contiguous() for name, value in found.diagonal.items()}
            safetensors.torch.save_file(held, path)
        if not math.isfinite(found.value):
            raise ValueError(f"the oracle is {found.value}")
        return {"value": found.value, "note": found.way, "details": found.details}


def _speaker(job: Job) -> Callable[[Subject, int], Said]:
    """What is called: the measure, its diagonal, or, where no measure is named, the gradient."""
    if job.measure is None:
        return lambda subject, seed: _gradient(subject)
    chosen: Measure = select_one(job.measure, offers("measures", job.plugins).classes, kind="measure")
    if job.quantity != "diagonal":
        return lambda subject, seed: _estimate(chosen, subject, seed)
    return lambda subject, seed: _diagonal(chosen, subject, seed)


def _gradient(subject: Subject) -> Said:
    slope: Mapping[str, Tensor] = torch.func.grad(subject.loss)(subject.params)
    return Said(sum(float(value.square().sum()) for value in slope.values()) ** 0.5)


def _estimate(chosen: Measure, subject: Subject, seed: int) -> Said:
    estimate = measure(chosen, subject, seed=seed)
    return Said(estimate.value, stochastic=estimate.probes > 0)


def _diagonal(chosen: Measure, subject: Subject, seed: int) -> Said:
    generator = torch.Generator().manual_seed(seed)
    before = generator.get_state()
    entries = chosen.diagonal_entries(subject, generator=generator)
    return Said(diagonal=entries, stochastic=not torch.equal(before, generator.get_state()))


def _judged(found: Mapping[str, Tensor], oracle: str | None) -> Answer:
    """A diagonal in numbers. Raises ValueError for one that is not finite."""
    value = sum(float(block.detach().double().sum()) for block in found.values())
    if not math.isfinite(value):
        raise ValueError(f"the diagonal sums to {value}")
    if oracle is None:
        return {"value": value, "negative": sum(int((block < 0).sum()) for block in found.values())}
    error, negative = diagonal_error(found, safetensors.torch.load_file(Path(oracle)))
    return {"value": value, "error": error, "negative": negative}


def _resident() -> int:
    """The memory that this process holds, in bytes; at its most where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
