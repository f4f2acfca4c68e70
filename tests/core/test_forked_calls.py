"""Calls in copies of this process: results, exceptions, deaths, and an interrupt."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sharpbench.core import forked_calls
from sharpbench.core.forked_calls import MAX_PROCESSES, call_side_by_side, count_workers

HERE = os.getpid()
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="a copy of a process is not safe elsewhere")


def square(number: int) -> tuple[int, bool]:
    """The square, and whether another process found it."""
    return number**2, os.getpid() != HERE


@on_linux
@pytest.mark.parametrize("workers", [2, 3, 50])
def test_results_come_in_the_order_of_the_calls(workers: int) -> None:
    calls = [partial(square, number) for number in range(7)]
    assert call_side_by_side(calls, workers=workers) == [(number**2, True) for number in range(7)]
    assert multiprocessing.active_children() == []


def square_all(workers: int) -> list[tuple[int, bool]]:
    return call_side_by_side([partial(square, number) for number in range(5)], workers=workers)


def test_this_process_makes_the_calls_of_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a copy is not safe, and in a process that may have no children."""
    here = [(number**2, False) for number in range(5)]
    assert square_all(1) == here
    assert call_side_by_side([partial(square, 3)], workers=4) == [(9, False)]
    assert call_side_by_side([], workers=4) == []
    with monkeypatch.context() as patch:
        patch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
        assert square_all(3) == here
    monkeypatch.setattr(sys, "platform", "darwin")
    assert square_all(3) == here


def fail(number: int) -> int:
    """Raise what cannot be pickled."""

    class Unpicklable(Exception):
        pass

    raise Unpicklable(f"call {number}")


@on_linux
def test_an_exception_comes_back_with_its_traceback_and_ends_the_other_calls() -> None:
    calls: list[Callable[[], object]] = [partial(time.sleep, 36_000.0), partial(fail, 3)]
    with pytest.raises(Exception, match="call 3") as raised:
        call_side_by_side(calls, workers=2)
    assert type(raised.value).__name__ == "Unpicklable"
    assert raised.traceback[-1].name == "fail"
    assert multiprocessing.active_children() == []


def end_elsewhere(number: int) -> int:
    """Kill any other process than this one, as a system without memory does."""
    if os.getpid() != HERE:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@on_linux
def test_calls_whose_process_was_killed_are_made_here() -> None:
    assert call_side_by_side([partial(end_elsewhere, number) for number in range(5)], workers=2) == [0, 1, 2, 3, 4]


@on_linux
def test_where_the_system_refuses_processes_the_calls_are_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(forked_calls, "ChildProcess", refuse)
    assert call_side_by_side([partial(square, 2), partial(square, 3)], workers=2) == [(4, False), (9, False)]


INTERRUPTED = """
import os, sys, time
from sharpbench.cli.main import main
import sharpbench.cli.app
from sharpbench.core.forked_calls import call_side_by_side

def work():
    print(os.getpid(), flush=True)
    time.sleep(36_000)

sharpbench.cli.app.root_command = lambda: lambda **options: call_side_by_side([work, work, work], workers=2)
main()
"""


@on_linux
@pytest.mark.parametrize("to_all", [False, True])
def test_an_interrupt_ends_all_processes_at_once_in_one_line(to_all: bool, tmp_path: Path) -> None:
    """Ctrl-C in a terminal goes to all processes of the group."""
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    children = [int(process.stdout.readline()) for _ in range(2)]
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=200)
    assert (process.returncode, errors) == (130, "interrupted\n")
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


@on_linux
def test_the_processes_end_with_their_parent(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED, encoding="utf-8")
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(2):
            process.stdout.readline()
        process.kill()
        assert process.stdout.read() == ""  # the end of the pipe, when all that write to it have ended


def test_the_number_of_workers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert count_workers() == MAX_PROCESSES
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert count_workers() == 1


MULTIPLYING = """
import os, threading, time
import numpy as np
from sharpbench.core.forked_calls import call_side_by_side

matrix = np.ones((1000, 1000))

def multiply():
    while True:
        matrix @ matrix

threading.Thread(target=multiply, daemon=True).start()
time.sleep(0.2)
for _ in range(3):
    print(len(call_side_by_side([os.getpid] * 4, workers=2)), flush=True)
os._exit(0)  # OpenBLAS would wait for its product here as well
"""


@on_linux
def test_a_thread_that_multiplies_matrices_does_not_stop_the_calls(tmp_path: Path) -> None:
    """OpenBLAS would end its threads before a copy, and wait for a product that has lost them."""
    script = tmp_path / "script.py"
    script.write_text(MULTIPLYING, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment["OPENBLAS_NUM_THREADS"] = "2"
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["4"] * 3
