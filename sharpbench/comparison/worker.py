"""A contestant's process from inside: it answers the parent's calls, one after the other."""

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

from sharpbench.comparison.config import Job
from sharpbench.comparison.network import open_subject
from sharpbench.comparison.reference import diagonal_error, reference_value
from sharpbench.core.evaluate import measure
from sharpbench.core.installed_plugins import KINDS
from sharpbench.core.measure import Measure
from sharpbench.core.registry import available
from sharpbench.core.spec import parse_spec
from sharpbench.core.subject import Subject
from sharpbench.curvature import gradient_method
from sharpbench.environment import apply_settings, describe_environment
from sharpbench.models.file import parse_file_model
from sharpbench.models.model import Model
from sharpbench.processes import prepare_child, resident_bytes
from sharpbench.runner.cost import MAX_WAITING_SHARE, measure_contention, peak_bytes, read_schedstat, time_call
from sharpbench.runner.failures import failure_status

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""


def keep_heap() -> bool:
    """Whether glibc was set to keep freed memory in the process; False without glibc.

    Otherwise a library that stores much in each call would spend most of its time in page faults, which says nothing
    about its method.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, 2**30) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


Answer = dict[str, Any]
ROUND_SECONDS, MAX_CALLS = 0.2, 25
"""Short calls are repeated for this time, at most this often; the round's time is their median."""


@dataclass(slots=True)
class CallResult:
    """The result of one call: a value or a diagonal, and whether it depends on random numbers."""

    value: float | None = None
    diagonal: Mapping[str, Tensor] | None = None
    stochastic: bool = False


def serve(connection: Connection, job: Job) -> None:
    """Questions come in as lines of JSON, answers go out, until the other end is closed."""
    with open(os.devnull, "wb") as nowhere:
        prepare_child(nowhere.fileno())
        _end_with(connection)
        kept = keep_heap()
        try:
            apply_settings(job.workspace.device, job.workspace.threads)
            server = ContestantServer(job)
            environment = {**describe_environment(job.workspace.device), "heap kept": kept}
            _send(connection, {"ready": True, "environment": environment})
            while True:
                _send(connection, _answer(server, json.loads(connection.recv_bytes())))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except BaseException as error:  # a network or a plugin that cannot be opened here
            _send(connection, _lost(error))


def _end_with(connection: Connection) -> None:
    """Have this process killed when the other end is closed, whatever call it is in.

    Its parent is the server of processes, which lives as long as this one, also where the client has died.
    """
    ends = select.poll()
    ends.register(connection.fileno(), 0)  # only of a hangup, which is always reported

    def watch() -> None:
        ends.poll()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _send(connection: Connection, answer: Answer) -> None:
    connection.send_bytes(json.dumps(answer).encode())


def _answer(server: ContestantServer, question: Answer) -> Answer:
    try:
        match question.pop("do"):
            case "oracle":
                return server.oracle(**question)
            case _:
                return server.call(**question)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except BaseException as error:  # a contestant that raises, or leaves Python, costs only itself
        return _lost(error)


def _lost(error: BaseException) -> Answer:
    status, reason = failure_status(error)
    return {"status": status, "reason": reason}


class ContestantServer:
    """A measure, or the gradient, with its subject. Answers `call` and `oracle`."""

    def __init__(self, job: Job) -> None:
        self.modules_at_start = frozenset(sys.modules)
        for kind in KINDS:
            available(kind, job.workspace.plugins)
        model: Model = parse_file_model(job.model) or parse_spec(job.model, available("models").classes, kind="model")
        self.job = job
        self.subject = open_subject(
            model, job.file, outputs=job.outputs, dtype=job.dtype, device=job.workspace.device, batch_size=None
        )
        self.measure: Measure | None = None
        if job.measure is not None:
            self.measure = parse_spec(job.measure, available("measures", job.workspace.plugins).classes, kind="measure")
        self.evaluate = _make_evaluation(self.measure, job.quantity)

    def call(self, *, batch: int, seed: int, repeated: bool, memory: bool, oracle: str | None) -> Answer:
        """The value and the time of a call, without the time of the measure's `prepare`.

        Args:
            batch: the batch size.
            seed: the seed of random probes.
            repeated: make an untimed call first, then as many calls as fit into ROUND_SECONDS; state their median.
            memory: also state by how much one call raises the peak memory. The heap is given back to the system
                before, so that the call takes longer.
            oracle: the file of the reference diagonal, against which the error of a diagonal is computed.
        """
        calls = 1
        if repeated:
            _, seconds = self._time_call(self._prepare_subject(batch), seed)
            calls = max(1, min(MAX_CALLS, int(ROUND_SECONDS / seconds)))
        gc.collect()
        before = read_schedstat()
        times: list[float] = []
        peak = None
        for _ in range(calls):
            subject, result = self._prepare_subject(batch), CallResult()

            def once(subject: Subject = subject) -> None:
                nonlocal result
                result, seconds = self._time_call(subject, seed)
                times.append(seconds)

            if memory:
                peak = peak_bytes(once, subject.device)
            else:
                once()
        contended = measure_contention(before, read_schedstat()) > MAX_WAITING_SHARE
        answer: Answer = {"seconds": statistics.median(times), "calls": calls, "contended": contended}
        answer |= {"peak_bytes": peak, "stochastic": result.stochastic}
        values = {"value": result.value} if result.diagonal is None else _check_diagonal(result.diagonal, oracle)
        del result  # a diagonal is not counted as resident memory
        return {**answer, **values, "resident": _resident_bytes(), "imported": self._imported_modules()}

    def _time_call(self, subject: Subject, seed: int) -> tuple[CallResult, float]:
        """The result of one call, and its seconds."""
        result = CallResult()

        def once() -> None:
            nonlocal result
            result = self.evaluate(subject, seed)

        seconds = time_call(once, subject.device)
        return result, seconds

    def _prepare_subject(self, batch: int) -> Subject:
        """A new subject with that batch size, prepared for the measure."""
        subject = replace(self.subject, batch_size=batch)
        if self.measure is not None:
            self.measure.prepare(subject)
        return subject

    def _imported_modules(self) -> list[str]:
        """The top-level modules that were imported after the process started."""
        return sorted({name.partition(".")[0] for name in set(sys.modules) - self.modules_at_start})

    def oracle(self, *, quick: bool, path: str) -> Answer:
        """The reference value; a reference diagonal is written to the file `path`."""
        reference = reference_value(self.subject, self.job.quantity, quick=quick)
        if reference.diagonal is not None:
            blocks = {name: value.detach().cpu().contiguous() for name, value in reference.diagonal.items()}
            safetensors.torch.save_file(blocks, path)
        if not math.isfinite(reference.value):
            raise ValueError(f"the oracle is {reference.value}")
        return {"value": reference.value, "note": reference.way, "details": reference.details}


def _make_evaluation(chosen: Measure | None, quantity: str) -> Callable[[Subject, int], CallResult]:
    """The function of subject and seed that is timed: a measure, its diagonal, or without a measure the gradient."""
    if chosen is None:
        return lambda subject, seed: _evaluate_gradient(subject)
    if quantity != "diagonal":
        return lambda subject, seed: _evaluate_measure(chosen, subject, seed)
    return lambda subject, seed: _evaluate_diagonal(chosen, subject, seed)


def _evaluate_gradient(subject: Subject) -> CallResult:
    gradient, _ = gradient_method(subject).gradient_and_value(subject.loss, subject.params)
    return CallResult(sum(float(value.square().sum()) for value in gradient.values()) ** 0.5)


def _evaluate_measure(chosen: Measure, subject: Subject, seed: int) -> CallResult:
    estimate = measure(chosen, subject, seed=seed)
    return CallResult(estimate.value, stochastic=estimate.probes > 0)


def _evaluate_diagonal(chosen: Measure, subject: Subject, seed: int) -> CallResult:
    generator = torch.Generator().manual_seed(seed)
    before = generator.get_state()
    entries = chosen.diagonal_entries(subject, generator=generator)
    return CallResult(diagonal=entries, stochastic=not torch.equal(before, generator.get_state()))


def _check_diagonal(diagonal: Mapping[str, Tensor], oracle: str | None) -> Answer:
    """The sum of a diagonal, its negative entries and its error against the diagonal in the file `oracle`.

    Raises ValueError if it is not finite.
    """
    value = sum(float(block.detach().double().sum()) for block in diagonal.values())
    if not math.isfinite(value):
        raise ValueError(f"the diagonal sums to {value}")
    if oracle is None:
        return {"value": value, "negative": sum(int((block < 0).sum()) for block in diagonal.values())}
    error, negative = diagonal_error(diagonal, safetensors.torch.load_file(Path(oracle)))
    return {"value": value, "error": error, "negative": negative}


def _resident_bytes() -> int:
    """The resident memory of this process; its peak if the system does not state the current value."""
    return resident_bytes() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
