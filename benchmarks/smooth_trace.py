"""The Hessian's trace of smooth networks to 1 %: ours, Hutchinson on the Hessian, probes by tensor, and the peers.

    python -m benchmarks.smooth_trace [--networks test_vit,test_convnext] [--data-dir FOLDER] [--examples 128]
    python -m benchmarks.smooth_trace --coverage 500 [--pool 512] [the same options]

Networks of timm, trained on 512 images of MNIST (digits without --data-dir) at 32x32 to a mean loss of 0.01, float32,
one thread. A product is one second derivative along a vector, of all examples. `products` for a half width of 1 % of
the 95 % interval: ours counts what it took; Hutchinson's are planned from the standard deviation of 100 of its samples,
(1.96 s / (0.01 tr H))^2, and the peers, which use the same estimator, need as many. `by tensor` is 100 probes of each
tensor without a certificate, the default until version 2 of the measure, whatever precision that reaches. Seconds are
processor seconds, the median of interleaved turns; Hutchinson's and a peer's are those of 10 products, times what it
needs over 10. Only ours include the error over examples.

With --coverage the intervals are judged instead, of `trace` and of `adaptive-trace`. A pool of --pool independent
samples is drawn once for every group of examples, and each trial draws from the pools, with replacement, what the
estimator asks for: pilot, allocation and stopping are those of a measurement. The truth is the Gauss-Newton part plus
the means of the pools. Rare samples that no pool holds are the one thing that such trials do not show.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench import Estimate, NotApplicable, Subject, measure
from sharpbench.curvature import (
    certificate,
    hutchinson_trace,
    linear_operator,
    mean_traces,
    trace_estimate,
    traces_by_example,
    weighted_traces,
)
from sharpbench.curvature.residual import residual
from sharpbench.curvature.strata import Stratum, sample_strata
from sharpbench.datasets import Digits, Mnist
from sharpbench.models import Timm

PRECISION, SIZE, SAMPLES, GOAL, EPOCHS = 0.01, 32, 512, 0.01, 200
PROBES_PER_TENSOR = 100
PEERS = (
    "pyhessian-trace[samples=10,tolerance=0]",
    "curvlinops-trace[samples=10]",
    "eigenthings-trace[samples=10]",
)


def images(folder: Path | None) -> tuple[Tensor, Tensor]:
    """Images [512, 1, 32, 32] and their classes."""
    data = (Digits() if folder is None else Mnist()).load(folder)
    x, y = data.train_inputs[:SAMPLES], data.train_targets[:SAMPLES]
    return F.interpolate(x, size=(SIZE, SIZE), mode="bilinear"), y


def trained(name: str, x: Tensor, y: Tensor) -> nn.Module:
    """The network after AdamW at a rate of 1e-3, to the goal."""
    torch.manual_seed(0)
    model = Timm(name).build(tuple(x.shape[1:]), 10)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(EPOCHS):
        model.train()
        for some in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[some]), y[some]).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            if float(F.cross_entropy(model(x), y)) < GOAL:
                break
    return model


def timed(run: Callable[[], object]) -> float:
    """Processor seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def compare(name: str, x: Tensor, y: Tensor, examples: int, turns: int) -> None:
    """Print the rows of one network."""
    model = trained(name, x, y)
    subject = Subject.from_module(model, x[:examples], y[:examples])
    uncertified = sum(bool(found) for found in certificate(subject).values())
    drawn = hutchinson_trace(subject, samples=100, generator=torch.Generator().manual_seed(1))

    def ours(seed: int) -> Estimate:
        return trace_estimate(subject.fresh(), generator=torch.Generator().manual_seed(seed), precision=PRECISION)

    found = ours(0)
    assert drawn.stderr is not None
    needed = (1.96 * 10 * drawn.stderr / (PRECISION * found.value)) ** 2
    signs = torch.randn(10, subject.size, generator=torch.Generator().manual_seed(0)).sign()
    peers = [word for word in PEERS if _attempt(word, subject) is not None]
    seconds: dict[str, list[float]] = {}
    for turn in range(turns):
        runs: dict[str, Callable[[], object]] = {
            "gradient": lambda: torch.func.grad(subject.loss)(subject.params),
            "ours": lambda turn=turn: ours(turn),
            "hutchinson": lambda: linear_operator(subject) @ signs.T,
            **{word: lambda word=word: measure(word, subject.fresh()) for word in peers},
        }
        for key, run in runs.items():
            seconds.setdefault(key, []).append(timed(run))
    median = {key: statistics.median(each) for key, each in seconds.items()}
    gradient = median["gradient"]
    products = float(str(found.details["products"]))

    def row(method: str, count: float, taken: float | None) -> str:
        cost = "-" if taken is None else f"{taken:.1f} | {taken / gradient:.0f}"
        return (
            f"| {name} | {method} | {count:,.0f} | {count / products:.1f} | {cost if taken is not None else '- | -'} |"
        )

    print(row(f"trace: {found.value:.4g}, interval {found.interval}", products, median["ours"]))
    print(row("Hutchinson on H", needed, median["hutchinson"] * needed / 10))
    print(row("by tensor", PROBES_PER_TENSOR * uncertified, None))
    for word in peers:
        print(row(word.split("[")[0], needed, median[word] * needed / 10), flush=True)


def judge_intervals(name: str, x: Tensor, y: Tensor, *, examples: int, trials: int, pool: int) -> None:
    """Print how often the intervals of one network hold the truth, and the products that they take."""
    subject = Subject.from_module(trained(name, x, y), x[:examples], y[:examples])
    obstacles = tuple(key for key, found in certificate(subject).items() if found)
    for word, scale in (("trace", None), ("adaptive-trace", subject.params)):
        exact = mean_traces(subject, traces_by_example(subject)) if scale is None else weighted_traces(subject, scale)
        known = sum(exact.values())
        generator = torch.Generator().manual_seed(0)
        sources = residual(subject, obstacles, scale).strata(generator)
        pools = [source.draw(pool).sum(1, keepdim=True) for source in sources]
        truth = known + sum(float(each.mean()) for each in pools)
        resampled = [
            Stratum(source.cost, partial(_draw_again, each, generator))
            for source, each in zip(sources, pools, strict=True)
        ]
        hits, products, errors = 0, [], []
        for _ in range(trials):
            found = sample_strata(resampled, known=known, precision=PRECISION, budget=1e6)
            assert found.total.interval is not None
            hits += found.total.interval[0] <= truth <= found.total.interval[1]
            products.append(found.cost)
            errors.append(found.total.value / truth - 1)
        low, high = min(products), max(products)
        print(
            f"| {name} | {word} | {truth:.4g} | {known:.4g} | {len(sources)} | {hits / trials:.1%} | "
            f"{100 * statistics.mean(errors):+.3f} % | {100 * statistics.pstdev(errors):.2f} % | "
            f"{statistics.mean(products):.0f} ({low:.0f} to {high:.0f}) |",
            flush=True,
        )


def _draw_again(pool: Tensor, generator: torch.Generator, count: int) -> Tensor:
    """Rows of the pool, with replacement."""
    return pool[torch.randint(len(pool), (count,), generator=generator)]


def _attempt(word: str, subject: Subject) -> Estimate | None:
    try:
        return measure(word, subject)
    except (NotApplicable, ImportError) as error:
        print(f"{word}: {error}")
        return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="test_vit,test_convnext")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--coverage", type=int, default=0, metavar="TRIALS")
    parser.add_argument("--pool", type=int, default=512)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    x, y = images(options.data_dir)
    if options.coverage:
        print("| network | measure | truth | Gauss-Newton part | groups | covered | bias | error | products |")
        print("|---|---|---|---|---|---|---|---|---|")
        for name in options.networks.split(","):
            judge_intervals(name, x, y, examples=options.examples, trials=options.coverage, pool=options.pool)
        return
    print("| network | method | products | over ours | seconds | gradients |\n|---|---|---|---|---|---|")
    for name in options.networks.split(","):
        compare(name, x, y, options.examples, options.turns)


if __name__ == "__main__":
    main()
