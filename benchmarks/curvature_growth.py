"""How the exact trace grows with the number of examples and of classes.

    python benchmarks/curvature_growth.py [--networks mlp,lenet] [--examples 1024,4096,16384] [--classes 10,100,1000]

One thread, random images, interleaved calls, medians. Per example: seconds over n; per column: seconds over C - 1
at 128 examples, with one output per class. `sketch` is the estimate from 10 exact and 4 random columns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from sharpbench import Subject
from sharpbench.curvature import exact_traces, sketched_traces
from sharpbench.models import PAPER_MODELS


def subject_of(name: str, examples: int, classes: int) -> Subject:
    """The named network on random images."""
    torch.manual_seed(0)
    model = next(each for each in PAPER_MODELS if each.name == name)().build((1, 28, 28), classes)
    x, y = torch.rand(examples, 1, 28, 28) * 2 - 1, torch.randint(0, classes, (examples,))
    return Subject.from_module(model, x, y)


def medians(turns: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each call; calls are interleaved, after one round to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(repeats + 1):
        for name, call in turns.items():
            start = time.perf_counter()
            call()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="mlp,small-mlp,lenet,small-cnn")
    parser.add_argument("--examples", default="1024,4096,16384")
    parser.add_argument("--classes", default="2,10,100,1000")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sizes = [int(size) for size in options.examples.split(",")]
    widths = [int(width) for width in options.classes.split(",")]
    print(f"torch {torch.__version__}\n\n| network | n | seconds | microseconds an example | against the first |")
    print("|---|---|---|---|---|")
    for name in options.networks.split(","):
        subjects = {str(n): subject_of(name, n, 10) for n in sizes}
        seconds = medians({n: lambda s=s: exact_traces(s.fresh()) for n, s in subjects.items()}, options.repeats)
        first = seconds[str(sizes[0])] / sizes[0]
        for n in sizes:
            each = seconds[str(n)] / n
            print(f"| {name} | {n} | {seconds[str(n)]:.3f} | {1e6 * each:.1f} | {each / first:.2f} |", flush=True)
    print(
        "\n| network | C | seconds | milliseconds a column | sketch s | its standard error |\n|---|---|---|---|---|---|"
    )
    for name in options.networks.split(","):
        for width in widths:
            subject = subject_of(name, 128, width)

            def sketch(subject: Subject = subject) -> float | None:
                drawn = sketched_traces(subject.fresh(), generator=torch.Generator().manual_seed(0))
                return drawn.stderr and drawn.stderr / drawn.value

            turns: dict[str, Callable[[], object]] = {"exact": lambda subject=subject: exact_traces(subject.fresh())}
            if width > 12:
                turns["sketch"] = sketch
            seconds = medians(turns, options.repeats)
            drawn = f"{seconds['sketch']:.3f} | {sketch():.1%}" if "sketch" in seconds else "- | -"
            each = 1e3 * seconds["exact"] / (width - 1)
            print(f"| {name} | {width} | {seconds['exact']:.3f} | {each:.2f} | {drawn} |", flush=True)


if __name__ == "__main__":
    main()
