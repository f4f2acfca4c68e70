"""The cost of sharpbench.optim next to the base optimiser: milliseconds per step, and what is not the two passes.

    python benchmarks/sam.py                 # LeNet on the embedded digits, batches of 128, one thread
    python benchmarks/sam.py --batch 32

The optimisers are interleaved, and the median of the rounds counts. A pass is forward and backward. m-SAM has one
micro-batch here.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench.datasets import Digits
from sharpbench.models import LeNet
from sharpbench.optim import ASAM, GSAM, MSAM, SAM, FriendlySAM, SAMPa

RULES = (SAM, ASAM, MSAM, FriendlySAM, GSAM, SAMPa)
ROUNDS = 60


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = Digits().load(None)
    inputs, targets = (value[: options.batch] for value in data.of("train"))
    steps = {"SGD": plain_step(build(data.shape), inputs, targets), "one pass": one_pass(data.shape, inputs, targets)}
    for rule in RULES:
        model = build(data.shape)
        steps[rule.__name__] = sharpness_aware_step(rule(sgd(model), model), model, inputs, targets)
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    found = {name: statistics.median(values) for name, values in times.items()}
    single = found.pop("one pass")
    print("| optimiser | ms per step | times SGD | besides the passes |\n|---|---|---|---|")
    for name, seconds in found.items():
        rest = seconds - (1 if name == "SGD" else 2) * single
        print(f"| {name} | {1e3 * seconds:.1f} | {seconds / found['SGD']:.2f} | {rest / seconds:.0%} |")


def build(shape: tuple[int, ...]) -> nn.Module:
    """A LeNet, always the same."""
    torch.manual_seed(0)
    return LeNet().build(shape, 10)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """The base optimiser."""
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)


def plain_step(model: nn.Module, inputs: Tensor, targets: Tensor) -> Callable[[], object]:
    """A step of the base optimiser."""
    optimizer = sgd(model)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    return step


def one_pass(shape: tuple[int, ...], inputs: Tensor, targets: Tensor) -> Callable[[], object]:
    """Forward and backward."""
    model = build(shape)

    def step() -> None:
        model.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()

    return step


def sharpness_aware_step(
    optimizer: torch.optim.Optimizer, model: nn.Module, inputs: Tensor, targets: Tensor
) -> Callable[[], object]:
    """A step in closure style."""

    def closure() -> Tensor:
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        return loss

    return lambda: optimizer.step(closure)


if __name__ == "__main__":
    main()
