"""Training networks together and one by one: seconds per step and network, and the choice of the rule.

    python benchmarks/training.py                    # small-mlp, mlp, small-cnn, lenet; one thread and two
    python benchmarks/training.py --device cuda
    python benchmarks/training.py --networks 64 --batch 128 --models small-mlp

The same recipes on the embedded digits take the same steps each way: all in one group, one by itself, and, for
comparison, one with torch.optim.SGD. The ways are interleaved, and the smallest of some repeats counts.
The first ratio is one by one over together, the second torch.optim over together.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F

from sharpbench.datasets import Digits
from sharpbench.datasets.dataset import Data
from sharpbench.environment import apply_settings
from sharpbench.models import LeNet, Mlp, SmallCnn, SmallMlp
from sharpbench.models.model import Model
from sharpbench.training.examples import initial_module, training_examples
from sharpbench.training.optimizers import Sgd
from sharpbench.training.recipe import Recipe
from sharpbench.training.trainer import StackedTrainer, group_size

NAMES = {cls.name: cls for cls in (SmallMlp, Mlp, SmallCnn, LeNet)}
EXAMPLES = 1024


def recipes_of(model: Model, *, batch: int, count: int) -> list[Recipe]:
    """Recipes that differ in their seed."""
    first = Recipe(
        model=model,
        dataset=Digits(),
        train_size=EXAMPLES,
        batch_size=batch,
        learning_rate=0.01,
        max_epochs=100_000,
        target_loss=1e-12,
    )
    return [replace(first, seed=seed) for seed in range(count)]


def grouped(recipes: list[Recipe], data: Data, device: str) -> Callable[[], float]:
    """A function that trains a group for one epoch and returns the seconds."""
    group = StackedTrainer(recipes, data, device=device)
    state = group.begin()

    def epoch() -> float:
        nonlocal state
        wait(device)
        start = time.perf_counter()
        state = group.advance(state)
        wait(device)
        return time.perf_counter() - start

    return epoch


def plain(recipe: Recipe, data: Data, device: str) -> Callable[[], float]:
    """The same for one network by torch.optim."""
    module = initial_module(recipe, data.shape, data.classes).to(device).train()
    inputs, targets = (each.to(device) for each in training_examples(recipe, data))
    optimizer = torch.optim.SGD(
        module.parameters(), lr=recipe.learning_rate, momentum=Sgd().momentum, weight_decay=recipe.weight_decay
    )

    def epoch() -> float:
        wait(device)
        start = time.perf_counter()
        total = torch.zeros((), device=device)
        for batch in torch.randperm(len(inputs)).to(device).split(recipe.batch_size):
            loss = F.cross_entropy(module(inputs[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(batch)
        float(total)
        wait(device)
        return time.perf_counter() - start

    return epoch


def wait(device: str) -> None:
    """Wait until the device has finished."""
    if device == "cuda":
        torch.cuda.synchronize()


def measure_training(name: str, data: Data, *, device: str, batch: int, count: int, repeats: int) -> dict[str, float]:
    """Milliseconds per step and network: of networks together, of one by itself, and of one by torch.optim."""
    recipes = recipes_of(NAMES[name](), batch=batch, count=count)
    ways = {
        "together": (grouped(recipes, data, device), count),
        "one by one": (grouped(recipes[:1], data, device), 1),
        "torch.optim": (plain(recipes[0], data, device), 1),
    }
    for epoch, _ in ways.values():
        epoch()
    steps = -(-EXAMPLES // batch)
    times = dict.fromkeys(ways, float("inf"))
    for _ in range(repeats):
        for way, (epoch, networks) in ways.items():
            times[way] = min(times[way], epoch() / networks / steps * 1e3)
    return times


def compare(name: str, data: Data, *, device: str, batch: int, count: int, repeats: int) -> str:
    """A line of the table."""
    times = measure_training(name, data, device=device, batch=batch, count=count, repeats=repeats)
    module = initial_module(recipes_of(NAMES[name](), batch=batch, count=1)[0], data.shape, data.classes).to(device)
    size = group_size(module, data.train_inputs[:4].to(device), device=device)
    says = f"together, up to {size}" if size > 1 else "one by one"
    return (
        f"{name:10} {count:4d} x {batch:4d}  {times['together']:9.3f}  {times['one by one']:10.3f}"
        f"  {times['torch.optim']:11.3f}  {times['one by one'] / times['together']:5.2f}"
        f"  {times['torch.optim'] / times['together']:5.2f}  {says}"
    )


class Epoch:
    """An epoch of 1,024 examples in batches of 64, by how many networks train together."""

    params = (["small-mlp", "mlp"], [1, 16])
    param_names = ("network", "networks")
    version = "1"

    def setup(self, name: str, count: int) -> None:
        """A group after its first epoch, on one thread."""
        apply_settings("cpu", 1)
        data = Digits().load(None)
        self.group = StackedTrainer(recipes_of(NAMES[name](), batch=64, count=count), data)
        self.stage = self.group.advance(self.group.begin())

    def time_epoch(self, name: str, count: int) -> None:
        """All networks of the group."""
        self.group.advance(self.stage)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--models", default=",".join(NAMES), help="comma-separated")
    parser.add_argument("--networks", type=int, default=16)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", default="1,2", help="comma-separated; on cuda only the first")
    given = parser.parse_args()
    data = Digits().load(None)
    threads = [int(each) for each in given.threads.split(",")]
    for count in threads if given.device == "cpu" else threads[:1]:
        apply_settings(given.device, count)
        print(f"{given.device}, {count} thread{'s' if count > 1 else ''}; milliseconds a step and network, ratios")
        print(f"{'':10} {'networks x batch':>11}   together  one by one  torch.optim  ratio  ratio  the rule")
        for name in given.models.split(","):
            line = compare(
                name, data, device=given.device, batch=given.batch, count=given.networks, repeats=given.repeats
            )
            print(line, flush=True)


if __name__ == "__main__":
    main()
