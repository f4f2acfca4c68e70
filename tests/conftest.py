"""One thread per test process: on small networks more threads are slower, and values do not depend on the load."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the commands that tests start inherit it
os.environ["SHARPBENCH_PROGRESS"] = "0"  # on busy cores lines of progress would be among those that tests compare

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Python need not look again for garbage among the objects of all modules and tests: they stay."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def settings_restored() -> Iterator[None]:
    """A run in the test process, also one of a fixture, sets what the bits of later tests would depend on."""
    torch.set_num_threads(1)
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = benchmark
