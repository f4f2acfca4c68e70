"""Exact traces and diagonals against the paper's algorithm and BackPACK, in gradients and in seconds.

    python benchmarks/curvature_peers.py [--networks mlp,lenet] [--examples 1024] [--threads 1] [--repeats 5]
        [--no-paper]

The trace is the public call, `sharpbench.measure("trace", subject)`, in a plain script: nothing is set but the number
of threads, and the allocator is the default one. All contestants take turns in one process; medians of the process's
CPU time, on which other work of the machine has little influence. A gradient is one full forward and backward over the
same data at its best batch size; the paper's algorithm and BackPACK have theirs searched too. The paper's algorithm
takes most of the time; --no-paper leaves it out. `bar` is the target of the gradients, and of BackPACK's time over the
trace's. `counted` is the ratio of the multiply-adds, by torch's flop counter, of the exact trace and of a gradient, and
`over` the time in gradients over it. The second table is of peak
memory: the peak of torch's allocator above its level before the call, as its profiler records it, each contestant at
its best batch size. BackPACK is left out if it is not installed (pip install 'sharpbench[peers]').
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from sharpbench import Subject, measure
from sharpbench.curvature import exact_diagonal, per_example_traces, predicted_bytes
from sharpbench.models import PAPER_MODELS

C = 10
BATCHES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
BARS = {"mlp": (2.5, 1.9), "small-mlp": (3.0, 1.3), "lenet": (5.2, 1.4), "small-cnn": (5.0, 1.3)}
"""The most gradients that a trace may take, and the least ratio of BackPACK's time to the trace's."""


def gradient(model: nn.Module, x: Tensor, y: Tensor, batch: int) -> float:
    """The mean loss, its gradient left in .grad."""
    model.zero_grad()
    total = 0.0
    for inputs, targets in zip(x.split(batch), y.split(batch), strict=True):
        loss = F.cross_entropy(model(inputs), targets, reduction="sum") / len(x)
        loss.backward()
        total += loss.item()
    return total


def paper_trace(model: nn.Module, x: Tensor, batch: int) -> float:
    """Proposition 1 as its authors compute it: C + 1 passes, every example's gradient formed, a subtraction."""
    return sum(per_example_traces(model, x, batch_size=batch).values())


def sequential(name: str, model: nn.Module) -> nn.Sequential:
    """The paper's network as modules in a row, which BackPACK needs."""
    layers = list(model.children())
    if name in ("mlp", "small-mlp"):
        row: list[nn.Module] = [nn.Flatten()]
        for layer in layers[:-1]:
            row += [layer, nn.ReLU()]
        return nn.Sequential(*row, layers[-1])
    if name == "lenet":
        first, second, third, fourth, last = layers
        row = [first, nn.ReLU(), nn.MaxPool2d(2, 1), second, nn.ReLU(), nn.MaxPool2d(2), third, nn.ReLU()]
        return nn.Sequential(*row, nn.Flatten(), fourth, nn.ReLU(), last)
    first, second, last = layers
    row = [first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*row, nn.Flatten(), last)


def backpack_trace(model: nn.Sequential, x: Tensor, y: Tensor, batch: int) -> float:
    """The sum of BackPACK's DiagGGNExact."""
    from backpack import backpack, extend
    from backpack.extensions import DiagGGNExact

    model, criterion = extend(model), extend(nn.CrossEntropyLoss())
    total = 0.0
    for inputs, targets in zip(x.split(batch), y.split(batch), strict=True):
        model.zero_grad()
        with backpack(DiagGGNExact()):
            criterion(model(inputs), targets).backward()
        total += sum(float(value.diag_ggn_exact.sum()) for value in model.parameters()) * len(inputs) / len(x)
    return total


def best_batch(run: Callable[[int], object], batches: Sequence[int]) -> int:
    """The fastest batch size by the faster of two calls; the search ends after one twice as slow as the best."""
    seconds: dict[int, float] = {}
    for batch in batches:
        seconds[batch] = min(timed(lambda batch=batch: run(batch)) for _ in range(2))
        if seconds[batch] > 2 * min(seconds.values()) and len(seconds) > 3:
            break
    return min(seconds, key=seconds.__getitem__)


def timed(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def flops(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def peak(run: Callable[[], object]) -> int:
    """Bytes that torch's allocator holds at most during the call, above what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    held = most = 0
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


Turns = dict[str, Callable[[], object]]


def prepare(
    name: str, examples: int, sizes: Sequence[int], *, paper: bool = True
) -> tuple[Subject, Turns, dict[str, int]]:
    """The subject, each contestant's call, and the batch sizes that were searched; their values agree to 1e-3."""
    torch.manual_seed(0)
    model = next(each for each in PAPER_MODELS if each.name == name)().build((1, 28, 28), C)
    x, y = torch.rand(examples, 1, 28, 28) * 2 - 1, torch.randint(0, C, (examples,))
    subject = Subject.from_module(model, x, y)
    runs: dict[str, Callable[[int], object]] = {"gradient": lambda batch: gradient(model, x, y, batch)}
    if paper:
        runs["paper"] = lambda batch: paper_trace(model, x, batch)
    if importlib.util.find_spec("backpack") is not None:
        twin = sequential(name, copy.deepcopy(model))  # its hooks would slow the gradient
        runs["backpack"] = lambda batch: backpack_trace(twin, x, y, batch)
    trace = measure("trace", subject).value  # captures the graph too, once a network and input shape
    for peer in runs.keys() - {"gradient"}:
        value = runs[peer](64)
        assert isinstance(value, float)
        assert abs(value - trace) < 1e-3 * trace, f"{peer} says {value}, the trace is {trace}"
    batches = {each: best_batch(run, [size for size in sizes if size <= examples]) for each, run in runs.items()}
    turns: Turns = {each: lambda run=run, each=each: run(batches[each]) for each, run in runs.items()}
    turns |= {"trace": lambda: measure("trace", subject.fresh())}
    return subject, turns, batches


def median_seconds(turns: Turns, repeats: int) -> dict[str, float]:
    """The median CPU seconds of each contestant; they take turns."""
    taken: dict[str, list[float]] = {each: [] for each in turns}
    for _ in range(repeats):
        for each, turn in turns.items():
            taken[each].append(timed(turn))
    return {each: statistics.median(seconds) for each, seconds in taken.items()}


def compare(name: str, examples: int, repeats: int, sizes: Sequence[int], *, paper: bool) -> tuple[str, str]:
    """One row of each table."""
    subject, turns, batches = prepare(name, examples, sizes, paper=paper)
    turns |= {"diagonal": lambda: exact_diagonal(subject.fresh())}
    median = median_seconds(turns, repeats)
    counted = flops(turns["trace"]) / flops(turns["gradient"])
    gradients, backpack = median["trace"] / median["gradient"], median.get("backpack", float("nan"))
    most, least = BARS[name]
    slower = f"{median['paper'] / median['trace']:.1f} @{batches['paper']}" if paper else "-"
    speed = (
        f"| {name} | {median['gradient']:.4f} @{batches['gradient']} | {median['trace']:.4f} "
        f"| {gradients:.2f} | {most} | {counted:.2f} | {gradients / counted:.2f} | {median['diagonal']:.4f} "
        f"| {median['diagonal'] / median['trace']:.2f} | {slower} "
        f"| {backpack / median['trace']:.2f} | {least} | {backpack / median['diagonal']:.2f} "
        f"@{batches.get('backpack', '-')} |"
    )
    held = {each: f"{peak(turn) / 1e6:.1f}" for each, turn in turns.items()}
    predicted = f"{predicted_bytes(subject) / 1e6:.1f}"
    peers = (held.get(peer, "-") for peer in ("paper", "backpack"))
    every = (held["gradient"], held["trace"], held["diagonal"], predicted, *peers)
    return speed, f"| {name} | {' | '.join(every)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="mlp,small-mlp,lenet,small-cnn")
    parser.add_argument("--examples", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-paper", action="store_true", help="leave the paper's algorithm out")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)), help="batch sizes that are searched")
    options = parser.parse_args(arguments)
    sizes = [int(size) for size in options.batches.split(",")]
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.examples} examples")
    print("| network | gradient s | trace s | gradients | bar | counted | over | diagonal s | diagonal/trace "
          "| paper/trace | BackPACK/trace | bar | BackPACK/diagonal |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    memory = []
    for name in options.networks.split(","):
        speed, held = compare(name, options.examples, options.repeats, sizes, paper=not options.no_paper)
        print(speed, flush=True)
        memory.append(held)
    print("\nPeak memory, MB\n\n| network | gradient | trace | diagonal | predicted | paper | BackPACK |")
    print("|---|---|---|---|---|---|---|", *memory, sep="\n")


if __name__ == "__main__":
    main()
