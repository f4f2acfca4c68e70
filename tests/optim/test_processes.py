"""Two processes of DistributedDataParallel, by gloo: the weights of the plain loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench.datasets import Digits, Mnist
from sharpbench.models import LeNet
from sharpbench.optim import ASAM, GSAM, MSAM, SAM, FriendlySAM, SAMPa, SharpnessAware

DISTANCES = (1e-10, 0.3)
"""Bounds of the distance from the plain loop's weights over their way, in float64 and under autocast to bfloat16.

The latter were 0.04 (m-SAM), 0.05 (SAMPa) to 0.21 (GSAM) on MNIST, and 0.05 to 0.19 on the digits. The plain loop
under autocast is 0.04 to 0.20 away from the one in float64 itself."""
WORLD, BATCH, STEPS, MICRO_BATCHES = 2, 16, 4, 2


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


MAKERS: dict[str, Callable[[nn.Module], SharpnessAware]] = {
    "sam": lambda model: SAM(sgd(model), model),
    "sam, each process its own ascent": lambda model: SAM(sgd(model), model, synchronize=False),
    "asam": lambda model: ASAM(sgd(model), model),
    "m-sam": lambda model: MSAM(sgd(model), model),
    "f-sam": lambda model: FriendlySAM(sgd(model), model),
    "gsam": lambda model: GSAM(sgd(model), model),
    "sampa": lambda model: SAMPa(sgd(model), model),
}


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        inputs = torch.randn(BATCH, 6, generator=generator, dtype=torch.float64)
        yield inputs, torch.randint(3, (BATCH,), generator=generator)


def closure_of(model: nn.Module, inputs: Tensor, targets: Tensor, share: float = 1.0) -> Callable[[], None]:
    return lambda: (F.cross_entropy(model(inputs), targets) * share).backward()


def flat(model: nn.Module) -> list[float]:
    values: list[float] = torch.cat([value.detach().flatten() for value in model.parameters()]).tolist()
    return values


def train_in_parallel(name: str, rank: int) -> tuple[list[float], int]:
    """The weights of this process, and the reductions over processes that one step made."""
    model = nn.parallel.DistributedDataParallel(network())
    reductions = 0

    def count(bucket: torch.distributed.GradBucket) -> torch.futures.Future[Tensor]:
        nonlocal reductions
        reductions += 1
        mean = bucket.buffer() / WORLD
        done: torch.futures.Future[Tensor] = torch.distributed.all_reduce(mean, async_op=True).get_future()
        return done.then(lambda future: future.value()[0])

    model.register_comm_hook(None, lambda state, bucket: count(bucket))
    optimizer = MAKERS[name](model)
    for inputs, targets in batches():
        own, its = inputs.chunk(WORLD)[rank], targets.chunk(WORLD)[rank]
        if isinstance(optimizer, MSAM):
            pairs = zip(own.chunk(MICRO_BATCHES), its.chunk(MICRO_BATCHES), strict=True)
            optimizer.step([closure_of(model, *pair, 1 / MICRO_BATCHES) for pair in pairs])
        else:
            optimizer.step(closure_of(model, own, its))
    return flat(model), reductions


def train_plainly(name: str) -> list[float]:
    """One process; a rule whose ascents are those of processes is m-SAM with their batches."""
    model = network()
    parts = {"m-sam": WORLD * MICRO_BATCHES, "sam, each process its own ascent": WORLD}.get(name)
    optimizer = MSAM(sgd(model), model) if parts else MAKERS[name](model)
    for inputs, targets in batches():
        if parts:
            pairs = zip(inputs.chunk(parts), targets.chunk(parts), strict=True)
            optimizer.step([closure_of(model, *pair, 1 / parts) for pair in pairs])  # type: ignore[arg-type]
        else:
            optimizer.step(closure_of(model, inputs, targets))
    return flat(model)


def overflow(rank: int) -> list[object]:
    """The weights and the scale, where the first pass of one process is not finite, and ascents are not shared."""
    model = nn.parallel.DistributedDataParallel(network())
    optimizer, scaler = SAM(sgd(model), model, synchronize=False), torch.amp.GradScaler("cpu", init_scale=2.0)
    calls = 0

    def closure() -> None:
        nonlocal calls
        loss = F.cross_entropy(model(inputs), targets)
        scaler.scale(loss * (float("inf") if rank == 1 and calls == 0 else 1)).backward()
        calls += 1

    inputs, targets = next(batches())
    optimizer.step(closure, scaler=scaler)
    scaler.update()
    return [flat(model), scaler.get_scale()]


def lenet() -> nn.Module:
    torch.manual_seed(0)
    return LeNet().build((1, 28, 28), 10)


def train_lenet(name: str, rank: int | None = None, *, autocast: bool = False) -> list[float]:
    """The plain loop; or, in a process of a rank, four micro-batches."""
    folder = os.environ.get("SHARPBENCH_DATA")
    images, labels = (Mnist().load(Path(folder)) if folder else Digits().load(None)).of("train")
    images = F.interpolate(images[: 6 * 64], 28) if images.shape[-1] != 28 else images[: 6 * 64]
    dtype = torch.float32 if autocast else torch.float64
    images = images.to(dtype)
    own = lenet().to(dtype)
    model = own if rank is None else nn.parallel.DistributedDataParallel(own)
    optimizer = MAKERS[name](model)
    parts = 2 if "own ascent" in name else 8

    def closure_of(pieces: list[tuple[Tensor, Tensor]], share: float) -> Callable[[], None]:
        def closure() -> None:
            for number, (inputs, targets) in enumerate(pieces, 1):
                last = rank is None or number == len(pieces)
                with nullcontext() if last else model.no_sync():  # type: ignore[operator]
                    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                        loss = F.cross_entropy(model(inputs), targets) * share
                    loss.backward()

        return closure

    for start in range(0, len(images), 64):
        batch, its = images[start : start + 64], labels[start : start + 64]
        if rank is None:
            several = isinstance(optimizer, MSAM) or "own ascent" in name
            pieces = list(zip(batch.chunk(parts), its.chunk(parts), strict=True)) if several else [(batch, its)]
            if several and not isinstance(optimizer, MSAM):
                optimizer = MSAM(optimizer.base, model)
        else:
            pieces = list(zip(batch.chunk(2)[rank].chunk(4), its.chunk(2)[rank].chunk(4), strict=True))
        if isinstance(optimizer, MSAM):
            optimizer.step([closure_of([piece], 1 / len(pieces)) for piece in pieces])
        else:
            optimizer.step(closure_of(pieces, 1 / len(pieces)))
    return flat(model)


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=WORLD)
    found: dict[str, object] = {name: train_in_parallel(name, rank) for name in MAKERS}
    found["overflow"] = overflow(rank)
    found["lenet"] = {name: [train_lenet(name, rank, autocast=cast) for cast in (False, True)] for name in MAKERS}
    torch.distributed.destroy_process_group()
    (folder / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")


@pytest.mark.slow
def test_two_processes_give_the_weights_of_the_plain_loop(tmp_path: Path) -> None:
    """To 1e-12; both processes hold the same bits. LeNet, with accumulation: see DISTANCES."""
    words = [[sys.executable, "-W", "ignore", __file__, str(rank), str(tmp_path)] for rank in range(WORLD)]
    assert [process.wait(timeout=240) for process in [subprocess.Popen(word) for word in words]] == [0, 0]
    found = [json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(WORLD)]
    assert found[0] == found[1]
    reductions = {name: found[0][name][1] for name in MAKERS}
    for name in MAKERS:
        plain = torch.tensor(train_plainly(name), dtype=torch.float64)
        torch.testing.assert_close(torch.tensor(found[0][name][0], dtype=torch.float64), plain, rtol=1e-12, atol=1e-12)
    assert reductions["sam"] == reductions["gsam"] == reductions["sampa"] == 2 * STEPS
    assert reductions["sam, each process its own ascent"] == STEPS
    assert reductions["m-sam"] == MICRO_BATCHES * STEPS
    assert found[0]["overflow"] == [flat(network()), 1.0]
    start = torch.tensor(flat(lenet()), dtype=torch.float64)
    for name in MAKERS:
        plain = torch.tensor(train_lenet(name), dtype=torch.float64)
        way = (plain - start).norm()
        distances = [
            float((torch.tensor(values, dtype=torch.float64) - plain).norm() / way)
            for values in found[0]["lenet"][name]
        ]
        print(name, *(f"{distance:.1e}" for distance in distances))
        assert all(distance < bound for distance, bound in zip(distances, DISTANCES, strict=True)), name


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
