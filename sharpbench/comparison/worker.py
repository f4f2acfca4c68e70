"""Worker: the life of a contestant's process; one call after the other, each asked for by the parent."""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
import resource
import select
import signal
import statistics
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from sharpbench.comparison.network import open_subject
from sharpbench.comparison.process import Job
from sharpbench.comparison.reference import diagonal_error, reference_value
from sharpbench.core.evaluate import measure
from sharpbench.core.measure import Measure
from sharpbench.core.registry import KINDS, available
from sharpbench.core.spec import parse_spec
from sharpbench.core.subject import Subject
from sharpbench.environment import apply_settings, describe_environment
from sharpbench.models.file import from_word
from sharpbench.models.model import Model
from sharpbench.runner.cost import WAITED, measure_contention, peak_bytes, read_schedstat, time_call
from sharpbench.runner.engines.worker import prepare
from sharpbench.runner.failures import failure_status

# Heap: what C's allocator does with memory that is freed.

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""


def keep_heap() -> bool:
    """Ask glibc to keep what is freed; False where there is no glibc.

    Else whatever stores much in each call spends most of its time in page faults, which says nothing of its method.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, 2**30) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


Answer = dict[str, Any]
TURN, MOST = 0.2, 25
"""Short calls are repeated until so many seconds, and at most so often; their median is the round's."""


@dataclass(slots=True)
class CallResult:
    """What one call says: a value, or a diagonal; and whether random numbers made it."""

    value: float | None = None
    diagonal: Mapping[str, Tensor] | None = None
    stochastic: bool = False


def serve(connection: Connection, job: Job) -> None:
    """Questions come in as lines of JSON, answers go out, until the other end is closed."""
    with open(os.devnull, "wb") as nowhere:
        prepare(nowhere.fileno())
        _end_with(connection)
        kept = keep_heap()
        try:
            apply_settings(job.device, job.threads)
            desk = ContestantServer(job)
            _send(connection, {"ready": True, "environment": {**describe_environment(job.device), "heap kept": kept}})
            while True:
                _send(connection, _answer(desk, json.loads(connection.recv_bytes())))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except BaseException as error:  # a network or a plugin that cannot be opened here
            _send(connection, _lost(error))


def _end_with(connection: Connection) -> None:
    """Have this process killed when the other end is closed, whatever call it is in.

    Its parent is the server of processes, which lives as long as this one, also where whoever asks has died.
    """
    ends = select.poll()
    ends.register(connection.fileno(), 0)  # of a hangup alone, which is always told

    def watch() -> None:
        ends.poll()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _send(connection: Connection, answer: Answer) -> None:
    connection.send_bytes(json.dumps(answer).encode())


def _answer(desk: ContestantServer, question: Answer) -> Answer:
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
    status, reason = failure_status(error)
    return {"status": status, "reason": reason}


class ContestantServer:
    """A contestant with its subject."""

    def __init__(self, job: Job) -> None:
        self.before = frozenset(sys.modules)
        for kind in KINDS:
            available(kind, job.plugins)
        model: Model = from_word(job.model) or parse_spec(job.model, available("models").classes, kind="model")
        self.job = job
        self.subject = open_subject(
            model, job.file, outputs=job.outputs, dtype=job.dtype, device=job.device, batch_size=None
        )
        self.chosen: Measure | None = None
        if job.measure is not None:
            self.chosen = parse_spec(job.measure, available("measures", job.plugins).classes, kind="measure")
        self.says = _speaker(self.chosen, job.quantity)

    def call(self, *, batch: int, seed: int, repeated: bool, memory: bool, oracle: str | None) -> Answer:
        """One timed call; where `repeated`, after one that is not, the median of as many as TURN seconds hold. Of a
        diagonal with its error against that in `oracle`. What the measure prepares is not in the time.

        memory: also by how much one call raises the peak; the heap is given back before, so that it takes longer.
        """
        calls = max(1, min(MOST, int(TURN / self._timed(self._ready(batch), seed)[1]))) if repeated else 1
        gc.collect()
        before = read_schedstat()
        every: list[float] = []
        peak = None
        for _ in range(calls):
            subject, said = self._ready(batch), CallResult()

            def once(subject: Subject = subject) -> None:
                nonlocal said
                said, seconds = self._timed(subject, seed)
                every.append(seconds)

            if memory:
                peak = peak_bytes(once, subject.inputs.device)
            else:
                once()
        contended = measure_contention(before, read_schedstat()) > WAITED
        answer: Answer = {"seconds": statistics.median(every), "calls": calls, "contended": contended}
        answer |= {"peak_bytes": peak, "stochastic": said.stochastic}
        numbers = {"value": said.value} if said.diagonal is None else _judged(said.diagonal, oracle)
        del said
        return {**answer, **numbers, "resident": _resident(), "imported": self._imported()}

    def _timed(self, subject: Subject, seed: int) -> tuple[CallResult, float]:
        """What a call says, and its seconds."""
        said = CallResult()

        def once() -> None:
            nonlocal said
            said = self.says(subject, seed)

        seconds = time_call(once, subject.inputs.device)
        return said, seconds

    def _ready(self, batch: int) -> Subject:
        """The subject in batches of that size, fresh, and prepared for the measure."""
        subject = replace(self.subject, batch_size=batch)
        if self.chosen is not None:
            self.chosen.prepare(subject)
        return subject

    def _imported(self) -> list[str]:
        """The top-level modules that were not there when the process started."""
        return sorted({name.partition(".")[0] for name in set(sys.modules) - self.before})

    def oracle(self, *, quick: bool, path: str) -> Answer:
        """The truth; a diagonal goes to the file `path`."""
        found = reference_value(self.subject, self.job.quantity, quick=quick)
        if found.diagonal is not None:
            held = {name: value.detach().cpu().contiguous() for name, value in found.diagonal.items()}
            safetensors.torch.save_file(held, path)
        if not math.isfinite(found.value):
            raise ValueError(f"the oracle is {found.value}")
        return {"value": found.value, "note": found.way, "details": found.details}


def _speaker(chosen: Measure | None, quantity: str) -> Callable[[Subject, int], CallResult]:
    """What is called: the measure, its diagonal, or, where no measure is named, the gradient."""
    if chosen is None:
        return lambda subject, seed: _gradient(subject)
    if quantity != "diagonal":
        return lambda subject, seed: _estimate(chosen, subject, seed)
    return lambda subject, seed: _diagonal(chosen, subject, seed)


def _gradient(subject: Subject) -> CallResult:
    slope: Mapping[str, Tensor] = torch.func.grad(subject.loss)(subject.params)
    return CallResult(sum(float(value.square().sum()) for value in slope.values()) ** 0.5)


def _estimate(chosen: Measure, subject: Subject, seed: int) -> CallResult:
    estimate = measure(chosen, subject, seed=seed)
    return CallResult(estimate.value, stochastic=estimate.probes > 0)


def _diagonal(chosen: Measure, subject: Subject, seed: int) -> CallResult:
    generator = torch.Generator().manual_seed(seed)
    before = generator.get_state()
    entries = chosen.diagonal_entries(subject, generator=generator)
    return CallResult(diagonal=entries, stochastic=not torch.equal(before, generator.get_state()))


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
