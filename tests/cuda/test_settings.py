"""On CUDA: products without TF32, engines that give one value, and networks that train together."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sharpbench import RunOptions, Subject, measure, plan, run

pytestmark = pytest.mark.cuda

TF32_ERROR = 1e-4
"""Relative: TF32 keeps 10 bits, so its products of random matrices are wrong by some 3e-4; float32 by 1e-6."""


def test_products_are_without_tf32(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=generator) for _ in range(2))
    images, kernels = torch.randn(8, 16, 16, 16, generator=generator), torch.randn(16, 16, 3, 3, generator=generator)
    pairs = [
        (left.to(device) @ right.to(device), left.double() @ right.double()),
        (F.conv2d(images.to(device), kernels.to(device)), F.conv2d(images.double(), kernels.double())),
    ]
    for found, wanted in pairs:
        assert float((found.cpu().double() - wanted).norm() / wanted.norm()) < TF32_ERROR


def test_a_measure_is_without_tf32_where_the_caller_allows_it(device: str) -> None:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16 * 14 * 14, 10)
    network = torch.nn.Sequential(*layers).to(device)
    subject = Subject.from_module(
        network, torch.randn(32, 3, 16, 16, device=device), torch.arange(32, device=device) % 10
    )
    without = measure("trace", subject).value
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    assert measure("trace", subject.fresh()).value == pytest.approx(without, rel=1e-5)
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("engine", ["inline", "process", "ray"])
def test_engines_give_one_value_from_networks_trained_together(engine: str, device: str, tmp_path: Path) -> None:
    """Ray gives each worker a share of the GPUs (num_gpus); processes share the one that they see."""
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    cohort = "label-noise[ratios=2,seeds=2,train_size=32]"
    cells = plan("trace", "small-mlp", cohort=cohort, device=device, timing=0, oracle=0, invariance=0)
    records = list(run(cells, options=RunOptions(output=tmp_path / engine, engine=engine, cache_dir=tmp_path / "zoo")))
    assert [record.status for record in records] == ["ok"] * 4
    again = list(run(cells, options=RunOptions(output=tmp_path / "again", cache_dir=tmp_path / "zoo")))
    assert [record.value for record in records] == pytest.approx([record.value for record in again], rel=1e-5)
