"""A worker process from inside: it measures one cell after the other."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection

from sharpbench.core.installed_plugins import KINDS
from sharpbench.core.record import MAX_CAUSE_CHARS, Record
from sharpbench.core.registry import available
from sharpbench.environment import apply_settings
from sharpbench.errors import truncate
from sharpbench.processes import prepare_child
from sharpbench.runner.cell import Cell
from sharpbench.runner.engines.limits import format_bytes
from sharpbench.runner.engines.pool import DIVERGED, STARTED, Answer, PackedCell, WorkerDeath, WorkerSpec
from sharpbench.runner.engines.process_group import GlooGroup
from sharpbench.runner.evaluate_cell import CellEvaluator
from sharpbench.training.examples import LoadedData


def serve(connection: Connection, output: Connection, spec: WorkerSpec) -> None:
    """Answer every packed cell that comes in with STARTED and then a Record or a WorkerDeath, until the pipe is closed.

    What the process prints goes to `output`.
    """
    prepare_child(output.fileno())
    if spec.memory is not None and spec.workspace.device == "cpu":  # CUDA reserves more address space than there is
        resource.setrlimit(resource.RLIMIT_DATA, (spec.memory, spec.memory))
    try:
        _measure_cells(connection, spec)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _measure_cells(connection: Connection, spec: WorkerSpec) -> None:
    workspace = spec.workspace
    apply_settings(workspace.device, workspace.threads)
    for kind in KINDS:
        available(kind, workspace.plugins)  # otherwise their classes cannot be received
    group = None if spec.meeting_file is None else GlooGroup(spec.meeting_file, spec.rank, spec.size)

    evaluator = CellEvaluator(workspace, LoadedData(workspace.data_dir).load, group)
    gc.collect()
    gc.freeze()  # what is imported stays: to look for garbage in it before each timed call took a tenth of a second
    while True:
        packed: PackedCell = connection.recv()
        answer = _measure_cell(evaluator, packed, connection, spec.memory)
        with contextlib.suppress(ValueError, OSError):  # a measure may have closed them
            sys.stdout.flush()
            sys.stderr.flush()
        connection.send(answer)


def _measure_cell(evaluator: CellEvaluator, packed: PackedCell, connection: Connection, memory: int | None) -> Answer:
    outcome = _measure(evaluator, packed.content, lambda: connection.send(STARTED))
    if isinstance(outcome, Record) and outcome.status == "oom" and memory is not None:
        outcome = replace(outcome, reason=f"{outcome.reason}; --memory-limit is {format_bytes(memory)}")
    return Answer(key=packed.key, pid=os.getpid(), outcome=outcome, reusable=not evaluator.side_effects)


def _measure(evaluator: CellEvaluator, content: bytes, on_start: Callable[[], object]) -> Record | WorkerDeath:
    try:
        cell: Cell = pickle.loads(content)  # of our own parent
        record = evaluator.evaluate(cell, on_start=on_start)
    except BaseException as error:  # classes that this process cannot import, or an interrupt that a measure raises
        reason = truncate(" ".join(f"{type(error).__name__}: {error}".split()), MAX_CAUSE_CHARS)
        return WorkerDeath(status="failed", reason=reason)
    if evaluator.group is not None and evaluator.group.broken:
        if record.status != "ok":
            return WorkerDeath(status=record.status, reason=str(record.reason))
        why = next(iter(record.failed_checks.values()), f"failed: {DIVERGED}")
        return WorkerDeath(status="failed", reason=why.partition(": ")[2])
    return record
