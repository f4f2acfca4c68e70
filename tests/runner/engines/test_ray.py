"""The Ray engine, for real where Ray is installed: logical GPUs, deaths of measures and of Ray's own workers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sharpbench import Cell, InvalidInput, Record
from sharpbench.runner.engines.engine import Ray
from sharpbench.runner.engines.limits import Limits

ray = pytest.importorskip("ray")

Plan = Callable[..., tuple[Cell, ...]]
Ran = Callable[..., list[Record]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster with two GPUs that are but numbers."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def actors() -> list[int]:
    """Ray's processes that hold an actor of ours."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::RayWorker"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_cells_on_ray_share_gpus_and_survive(cluster: None, planned: Plan, ran: Ran, odd: Any, tmp_path: Path) -> None:
    """Two workers of one GPU each: a segfault and an endless measure cost their cells, kill -9 to an actor none."""
    ways = ["gpu", "segfaults", "killed once", "says", "never"]
    cells = planned([*(odd(way, folder=str(tmp_path)) for way in ways), odd("sleeps", seconds=2.0)])

    def strike() -> None:
        while not (tmp_path / "mark").exists():
            time.sleep(0.05)
        os.kill(actors()[0], signal.SIGKILL)

    striker = threading.Thread(target=strike)
    striker.start()
    records = ran(cells, Ray(Limits(timeout=4), gpus=1.0), workers=2)
    striker.join()
    assert sorted(record.key for record in records) == sorted(cell.key for cell in cells)
    found = {(record.recipe["label_noise"], record.configuration["way"]): record for record in records}
    assert {record.value for record in found.values() if record.configuration["way"] == "gpu"} == {0.0, 1.0}
    for (_, way), record in found.items():
        if way == "segfaults":
            assert record.reason == "killed: the process that measured it ended by SIGSEGV"
        elif way == "never":
            assert (record.status, record.reason) == ("timeout", "took longer than 4 s (--timeout)")
        else:
            assert (record.status, record.reason) == ("ok", None)
    assert all("a word" in str(found[noise, "says"].printed) for noise in (0.0, 1.0))


@pytest.mark.filterwarnings("ignore")
def test_what_ray_cannot_give_is_named(cluster: None, planned: Plan, ran: Ran, odd: Any) -> None:
    """Workers that could never start are refused: the cells they are given would wait for ever."""
    for engine, workers, named in (
        (Ray(gpus=3.0), 1, "measure 1 cells at a time, 1 processors and gpus=3 each, .* room for 0; give fewer"),
        (Ray(gpus=1.0), 3, "workers=3 measure 3 cells at a time, .* room for 2; give --workers 2, or"),
        (Ray(gpus=0.4), 5, "room for 4; give --workers 4, or"),  # two on each of two, not five on all
        (Ray(), 5, "workers=5 measure 5 cells at a time, 1 processors each, and .* room for 4; give --workers 4, or"),
        (Ray(Limits(pieces=3)), 6, "workers=6 measure 2 cells .* 3 processors each, .* room for 1; give --workers 3,"),
    ):
        with pytest.raises(InvalidInput, match=named):
            ran(planned([odd()]), engine, workers=workers)
