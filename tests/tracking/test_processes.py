"""A tracker in two processes of DistributedDataParallel, by gloo: rank 0 measures, and the weights stay the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sharpbench import Tracker

WORLD, STEPS, BATCH = 2, 6, 8
MEASURES = "top-eigenvalue,critical-sharpness,batch-sharpness[size=4,batches=4],gradient-norm"


def train(rank: int, *, tracked: bool) -> tuple[list[float], list[dict[str, object]]]:
    """The weights of this process after training, and the rows of its tracker."""
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    draws = torch.Generator().manual_seed(rank)
    inputs, targets = torch.randn(32, 6, generator=draws), torch.randint(3, (32,), generator=draws)
    tracker = None
    if tracked:
        tracker = Tracker(
            model, "cross_entropy", (inputs, targets), measures=MEASURES, every=2, optimizer=optimizer, budget=None
        )
    for step in range(STEPS):
        places = torch.randperm(len(inputs))[:BATCH]
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[places]), targets[places]).backward()
        optimizer.step()
        if tracker is not None:
            tracker.step(step)
    weights: list[float] = torch.cat([value.double().flatten() for value in model.state_dict().values()]).tolist()
    return weights, [] if tracker is None else tracker.frame.to_dict("records")


def run_rank(folder: Path, rank: int) -> None:
    """One of the two processes: its results as JSON."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    found = {"without": train(rank, tracked=False), "with": train(rank, tracked=True)}
    (folder / f"{rank}.json").write_text(json.dumps(found, default=str))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_rank_0_measures_and_all_weights_are_those_without_a_tracker(tmp_path: Path) -> None:
    words = [sys.executable, __file__, str(tmp_path)]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ranks = [subprocess.Popen([*words, str(rank)], env=settings, stderr=subprocess.PIPE) for rank in range(WORLD)]
    try:
        errors = [process.communicate(timeout=240)[1].decode() for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    assert [process.returncode for process in ranks] == [0, 0], errors
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(WORLD)]
    for each in found:
        assert each["with"][0] == each["without"][0]
    rows, other = (each["with"][1] for each in found)
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert other == []
    for row in rows:
        assert not row["notes"]
        assert row["top-eigenvalue"] > 0
        assert row["gradient-norm"] > 0


if __name__ == "__main__":
    run_rank(Path(sys.argv[1]), int(sys.argv[2]))
