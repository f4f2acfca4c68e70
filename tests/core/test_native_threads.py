"""The threads of BLAS, and those that sleep."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from sharpbench.core import native_threads
from sharpbench.core.forked_calls import call_side_by_side
from sharpbench.core.native_threads import one_blas_thread, other_threads_rest

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def blas_threads() -> list[int]:
    """The numbers of threads of the libraries of this process."""
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


@pytest.fixture
def three_threads() -> Iterator[list[int]]:
    """A process whose user has chosen three threads."""
    with threadpool_limits(limits=3, user_api="blas"):
        if 3 not in (chosen := blas_threads()):
            pytest.skip("threadpoolctl cannot set the threads of this BLAS")
        yield chosen


def test_a_block_has_one_thread_and_restores_the_number(three_threads: list[int]) -> None:
    with one_blas_thread():
        assert set(blas_threads()) == {1}
        with one_blas_thread():
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
    assert blas_threads() == three_threads


def test_an_exception_restores_the_number(three_threads: list[int]) -> None:
    with pytest.raises(RuntimeError, match="within"), one_blas_thread():
        raise RuntimeError("within")
    assert blas_threads() == three_threads


def test_the_last_of_overlapping_blocks_restores_the_number(three_threads: list[int]) -> None:
    first, second = one_blas_thread(), one_blas_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(blas_threads()) == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == three_threads


@pytest.mark.parametrize("workers", [1, 2])
def test_calls_side_by_side_and_in_turn_have_one_thread(workers: int, three_threads: list[int]) -> None:
    for found in call_side_by_side([blas_threads] * 4, workers=workers):
        assert set(found) == {1}
    assert blas_threads() == three_threads


@on_linux
def test_threads_that_wait_are_at_rest() -> None:
    ended = threading.Event()
    waiting = [threading.Thread(target=ended.wait, args=times) for times in ((), (1000.0,))]
    for thread in waiting:
        thread.start()
    try:
        assert other_threads_rest()
    finally:
        ended.set()


def multiply(ended: threading.Event) -> None:
    matrix = np.ones((300, 300))
    while not ended.is_set():
        matrix @ matrix


def count(ended: threading.Event) -> None:
    while not ended.is_set():
        pass


@on_linux
@pytest.mark.parametrize("work", [multiply, count])
def test_a_thread_at_work_is_not_at_rest(work: object) -> None:
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,))  # type: ignore[arg-type]
    thread.start()
    try:
        assert not other_threads_rest()
    finally:
        ended.set()
        thread.join()
    assert other_threads_rest()


def test_threads_that_cannot_be_seen_do_not_count_as_at_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native_threads, "_TASKS", tmp_path / "missing")
    assert not other_threads_rest()
