"""Compares a GPU with the CPU, where the GPU is a simulated device.

Each test starts a process, as torch keeps a device that it was told of.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no devices in Python",
)


def compare(*words: str) -> str:
    variables = {name: value for name, value in os.environ.items() if name != "SHARPBENCH_TEST_REPORT"}
    tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "cuda", str(HERE / "test_equality.py"))
    result = subprocess.run(
        [sys.executable, *tests, *words],
        cwd=HERE.parents[1],
        env={**variables, "SHARPBENCH_TEST_DEVICE": "simulated"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


def test_some_values_are_those_of_the_cpu() -> None:
    assert "2 passed" in compare("-k", "biases and margin or RNN and False")


@pytest.mark.slow
def test_all_values_are_those_of_the_cpu() -> None:
    assert " skipped" not in compare()


def test_what_mixes_devices_is_refused() -> None:
    code = (
        "import torch\n"
        "from tests.cuda.simulated_device import DEVICE\n"
        "data, places = torch.ones(3, device=DEVICE), torch.tensor([0, 2])\n"
        "assert (data[places] + torch.tensor(1.0)).cpu().tolist() == [2.0, 2.0]\n"
        "for wrong in (lambda: data + torch.ones(3), lambda: torch.ones(3)[places.to(DEVICE)], data.numpy,\n"
        "              lambda: torch.ones(()).add_(data), lambda: data.gather(0, places)):\n"
        "    try:\n"
        "        wrong()\n"
        "    except (RuntimeError, TypeError):\n"
        "        continue\n"
        "    raise AssertionError('nothing was raised')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=HERE.parents[1], timeout=120, check=True)
