"""Seconds of all measures over a population: together on shared subjects, and each separately.

    python -m benchmarks.catalogue [--networks 30] [--examples 1024] [--threads 1] [--cache-dir DIR]
    python -m benchmarks.catalogue --smooth test_vit [--examples 128] [--threads 1] [--data-dir FOLDER]

Trains (or takes from the cache) small-mlp networks on the embedded digits with label noise, evaluates every installed
measure at its defaults on each, first together on one subject per network, as `run` does, then each on a fresh subject.
Graph and training are not timed. Prints one row per measure with total seconds, and the sums.

With --smooth the network is one of timm, trained as `smooth_trace` trains it, and measured once, on one subject:
processor seconds, what they are in gradients, and the value or why there is none. The graph is part of the first row.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.smooth_trace import images, timed, trained
from sharpbench import Subject, measure, plan
from sharpbench.core.registry import available
from sharpbench.core.spec import format_spec
from sharpbench.environment import apply_settings
from sharpbench.files import cache_folder
from sharpbench.runner.failures import failure_status
from sharpbench.training.examples import initial_module
from sharpbench.training.population import Population


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=30)
    parser.add_argument("--examples", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache-dir", type=Path, default=None)
    parser.add_argument("--smooth", metavar="NETWORK")
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args(arguments)
    apply_settings("cpu", options.threads)
    if options.smooth:
        measure_smooth(options.smooth, options.data_dir, options.examples or 128)
        return
    options.examples = options.examples or 1024
    classes = available("measures").classes
    names = ",".join(name for name, cls in classes.items() if cls.__module__.startswith("sharpbench_measures."))
    cells = plan(names, "small-mlp", cohort=f"label-noise[ratios=5,seeds=6,train_size={options.examples}]")
    recipes = list(dict.fromkeys(cell.recipe for cell in cells))[: options.networks]
    measures = list(dict.fromkeys(cell.measure for cell in cells))
    data = recipes[0].dataset.load(None)
    population = Population(
        tuple(dict.fromkeys(cell.recipe for cell in cells)),
        data,
        cells[0].data_sha256,
        cache=cache_folder(options.cache_dir),
        device="cpu",
    )
    module = initial_module(recipes[0], data.shape, data.classes)
    together, alone, ends = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    for recipe in recipes:
        member = population.get_network(recipe)
        subject = member.subject(module, examples=None, dtype=torch.float32, device="cpu")
        if recipe is recipes[0]:  # graphs and torch's own caches
            for chosen in measures:
                ends[format_spec(chosen), _called(chosen, subject.fresh())[0]] += 0
        shared = subject.fresh()
        for chosen in measures:
            status, seconds = _called(chosen, shared)
            together[format_spec(chosen)] += seconds
            ends[format_spec(chosen), status] += 1
            alone[format_spec(chosen)] += _called(chosen, subject.fresh())[1]
    print(
        f"{len(recipes)} networks, {options.examples} examples, {options.threads} threads, torch {torch.__version__}\n"
    )
    print("| measure | together s | alone s | ok |\n|---|---|---|---|")
    for chosen in measures:
        name = format_spec(chosen)
        print(f"| {name} | {together[name]:.2f} | {alone[name]:.2f} | {ends[name, 'ok']}/{len(recipes)} |")
    print(f"| all | {sum(together.values()):.1f} | {sum(alone.values()):.1f} | |")


def measure_smooth(name: str, folder: Path | None, examples: int) -> None:
    """Print the rows of one trained network of timm."""
    x, y = images(folder)
    subject = Subject.from_module(trained(name, x, y), x[:examples], y[:examples])
    gradient = statistics.median(timed(lambda: torch.func.grad(subject.loss)(subject.params)) for _ in range(5))
    total = 0.0
    print("| measure | processor s | gradients | value |\n|---|---|---|---|")
    for chosen, cls in available("measures").classes.items():
        if not cls.__module__.startswith("sharpbench_measures."):
            continue
        start = time.process_time()
        try:
            found = f"{measure(chosen, subject).value:.5g}"
        except Exception as error:
            found = failure_status(error)[0]
        seconds = time.process_time() - start
        total += seconds
        print(f"| {chosen} | {seconds:.2f} | {seconds / gradient:.0f} | {found} |", flush=True)
    print(f"| all | {total:.1f} | {total / gradient:.0f} | |")


def _called(chosen, subject) -> tuple[str, float]:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    try:
        measure(chosen, subject)
        status = "ok"
    except Exception as error:
        status = failure_status(error)[0]
    return status, time.perf_counter() - start


if __name__ == "__main__":
    main()
