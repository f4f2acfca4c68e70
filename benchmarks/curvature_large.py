"""Exact traces of larger networks, in gradients and against the counted floor.

    python -m benchmarks.curvature_large [--networks resnet18,vit_tiny_patch16_224] [--examples 64] [--threads 2]

Networks of timm at their own input size, 10 classes, random weights. A gradient is one full forward and backward at
the best of the batch sizes that are searched, batch norm and dropout in eval mode as for the trace, attention on the
same back end. `counted`, `over` and the turns: as in curvature_peers.py. The heap is kept, as buffers are larger than
those to which glibc adapts. `resident`: growth of the peak resident memory of the process during one trace.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.curvature_peers import best_batch, flops, gradient, timed
from sharpbench import Subject
from sharpbench.comparison.worker import keep_heap
from sharpbench.curvature import exact_traces, predicted_bytes
from sharpbench.models import Timm
from sharpbench.runner.cost import peak_bytes

C = 10


def row(name: str, examples: int, repeats: int, batches: Sequence[int]) -> str:
    """One row of the table."""
    model = Timm(name)
    assert model.input_shape is not None
    torch.manual_seed(0)
    module = model.build(model.input_shape, C).eval()
    x, y = torch.randn(examples, *model.input_shape), torch.randint(0, C, (examples,))
    subject = Subject.from_module(module, x, y)
    exact_traces(Subject.from_module(module, x[:2], y[:2]))  # captures the graph and holds it against the module
    with sdpa_kernel(SDPBackend.MATH):
        batch = best_batch(lambda size: gradient(module, x, y, size), batches)
        taken: dict[str, list[float]] = {"gradient": [], "trace": []}
        for _ in range(repeats):
            taken["gradient"].append(timed(lambda: gradient(module, x, y, batch)))
            taken["trace"].append(timed(lambda: exact_traces(subject.fresh())))
        counted = flops(lambda: exact_traces(subject.fresh())) / flops(lambda: gradient(module, x, y, batch))
    module.zero_grad(set_to_none=True)
    resident = peak_bytes(lambda: exact_traces(subject.fresh()), torch.device("cpu")) or 0
    median = {each: statistics.median(seconds) for each, seconds in taken.items()}
    gradients = median["trace"] / median["gradient"]
    return (
        f"| {name} | {median['gradient']:.1f} @{batch} | {median['trace']:.1f} | {gradients:.2f} | {counted:.2f} "
        f"| {gradients / counted:.2f} | {predicted_bytes(subject) / 1e6:.0f} | {resident / 1e6:.0f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="resnet18,vit_tiny_patch16_224")
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batches", default="1,2,4,8,16,32,64", help="batch sizes that are searched")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    kept = keep_heap()
    print(f"torch {torch.__version__}, {options.threads} threads, {options.examples} examples, heap kept: {kept}")
    print("| network | gradient s | trace s | gradients | counted | over | predicted MB | resident MB |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.networks.split(","):
        print(
            row(name, options.examples, options.repeats, [int(size) for size in options.batches.split(",")]), flush=True
        )


if __name__ == "__main__":
    main()
