"""Worker: the life of a process that measures, one cell after the other."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import pickle
import resource
import signal
import sys
from dataclasses import replace
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

from sharpbench.core.record import MAX_CAUSE_CHARS, Record
from sharpbench.core.registry import KINDS, available
from sharpbench.datasets.dataset import Data, Dataset
from sharpbench.environment import apply_settings
from sharpbench.errors import cut
from sharpbench.runner.cell import Cell
from sharpbench.runner.engines.base import BEGUN, WorkerSpec, format_bytes
from sharpbench.runner.engines.process_group import GlooGroup
from sharpbench.runner.evaluate_cell import CellEvaluator
from sharpbench.runner.failures import WorkerDeath

PARENT_DEATH = 1
"""Linux's PR_SET_PDEATHSIG."""


def serve(connection: Connection, output: Connection, duty: WorkerSpec) -> None:
    """Cells come in, as bytes; BEGUN, then a Record or a Death goes out, until the other end is closed.

    Whatever is printed goes to `output`. Ctrl-C belongs to the terminal: the parent alone answers it.
    """
    prepare(output.fileno())
    if duty.memory is not None and duty.workspace.device == "cpu":  # CUDA reserves more than there is
        resource.setrlimit(resource.RLIMIT_DATA, (duty.memory, duty.memory))
    try:
        _measure(connection, duty)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def prepare(output: int) -> None:
    """Make this process one that measures: its prints go to the file `output`, its end comes with its parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_parent()
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    faulthandler.enable(sys.stderr)
    # locks that libraries make are then unlinked at once, and none is left behind where this process is killed
    multiprocessing.set_start_method("fork", force=True)


def _measure(connection: Connection, duty: WorkerSpec) -> None:
    apply_settings(duty.workspace.device, duty.workspace.threads)
    for kind in KINDS:
        available(kind, duty.workspace.plugins)  # else their classes cannot be received
    team = None if duty.place is None else GlooGroup(duty.place, duty.rank, duty.size)

    @cache
    def load(dataset: Dataset) -> Data:
        return dataset.load(duty.workspace.data_dir)

    bench = CellEvaluator(duty.workspace.cache_dir, load, team)
    while True:
        packed = connection.recv_bytes()
        answer = _answer(bench, packed, connection, duty)
        with contextlib.suppress(ValueError, OSError):  # a measure may have closed them
            sys.stdout.flush()
            sys.stderr.flush()
        connection.send(answer)


def _answer(bench: CellEvaluator, packed: bytes, connection: Connection, duty: WorkerSpec) -> Record | WorkerDeath:
    try:
        cell: Cell = pickle.loads(packed)  # of our own parent
        record = bench.record(cell, begun=lambda: connection.send(BEGUN))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except BaseException as error:  # classes that this process cannot import, or an interrupt that a measure raises
        return WorkerDeath(
            status="failed", reason=cut(" ".join(f"{type(error).__name__}: {error}".split()), MAX_CAUSE_CHARS)
        )
    if bench.team is not None and bench.team.broken:
        return WorkerDeath(status="failed" if record.status == "ok" else record.status, reason=str(record.reason))
    if record.status == "oom" and duty.memory is not None:
        limit = f"--memory-limit is {format_bytes(duty.memory)}"
        return replace(record, reason=f"{record.reason}; {limit}")
    return record


def _end_with_parent() -> None:
    """Where the system can, have this process killed when its parent dies, however that happens."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)
    with contextlib.suppress(OSError):  # where memory runs out, the system takes this process and not its parent
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
