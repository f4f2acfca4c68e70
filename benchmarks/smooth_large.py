"""The Hessian's trace of a trained vision transformer at 224x224 to 1 %: products, processor time and wall time.

    python -m benchmarks.smooth_large DATA [--network vit_tiny_patch16_224] [--size 224] [--samples 32]
        [--examples 16] [--threads 2] [--precision 0.01] [--weights FILE]

A network of timm with random initial weights is trained on --samples photographs of cifar10-jpeg (in the folder DATA),
enlarged to --size, to a mean loss of 0.01: AdamW, batches of 16, one cycle of rates up to 1e-3 and then 2e-4. The trace
is that of --examples of them. With --weights training is paid once: the weights are read from that file, or written
there.

A line follows each step: every epoch, one gradient, the Gauss-Newton part, 8 products (second derivatives along a
vector, of all examples: a sample of each group), and the whole `trace`, which computes all of this again.
"""

from __future__ import annotations

import math
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpbench import Subject, measure
from sharpbench.curvature import certificate, exact_traces
from sharpbench.curvature.residual import residual
from sharpbench.datasets import Cifar10Jpeg
from sharpbench.models import Timm

T = TypeVar("T")
SAMPLES = 8
"""Of each group, multiplied at once, as the trace's first ones are."""
CLASSES, GOAL, BATCH = 10, 0.01, 16
CYCLE_EPOCHS, LAST_EPOCHS, LAST_RATE = 60, 60, 2e-4
RATE, WARM_UP_STEPS, MAX_NORM = 1e-3, 12, 1.0
"""Of AdamW, and the norm at which a gradient is clipped."""


def load_photographs(folder: Path, samples: int, size: int) -> tuple[Tensor, Tensor]:
    """Photographs [samples, 3, size, size] of all classes in a random order, and their classes."""
    data = Cifar10Jpeg(train_size=CLASSES * math.ceil(samples / CLASSES), test_size=CLASSES).load(folder)
    order = torch.randperm(len(data.train_targets), generator=torch.Generator().manual_seed(0))[:samples]
    enlarged = F.interpolate(data.train_inputs[order], size=(size, size), mode="bilinear")
    return enlarged, data.train_targets[order]


def train(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Train to the goal: a cycle up to RATE and down again, then at LAST_RATE."""
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0)
    steps = CYCLE_EPOCHS * math.ceil(len(x) / BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=WARM_UP_STEPS / steps)
    if not reaches_goal(model, x, y, optimizer, CYCLE_EPOCHS, cycle.step):
        last = torch.optim.AdamW(model.parameters(), LAST_RATE, weight_decay=0.0)
        reaches_goal(model, x, y, last, LAST_EPOCHS)


def reaches_goal(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    after_step: Callable[[], None] = lambda: None,
) -> bool:
    """Whether the mean loss falls below the goal within these epochs; a line follows each."""
    for epoch in range(1, epochs + 1):
        total = 0.0
        for some in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[some]), y[some])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            after_step()
            total += loss.item() * len(some)
        print(f"epoch {epoch}: mean loss {total / len(x):.4f}, {time.process_time():.0f} processor s", flush=True)
        if total / len(x) < 2 * GOAL and mean_loss(model, x, y) < GOAL:
            return True
    return False


def mean_loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The mean loss over all examples."""
    with torch.no_grad():
        logits = torch.cat([model(some) for some in x.split(BATCH)])
    return F.cross_entropy(logits, y).item()


def timed(label: str, run: Callable[[], T]) -> T:
    """The call's result, after a line with its processor and wall seconds."""
    processor, wall = time.process_time(), time.perf_counter()
    found = run()
    seconds = time.process_time() - processor, time.perf_counter() - wall
    print(f"{label}: {seconds[0]:.1f} processor s, {seconds[1]:.1f} s", flush=True)
    return found


def measure_trace(subject: Subject, precision: float) -> None:
    """Print the parts' times, and the trace."""
    generator = torch.Generator().manual_seed(0)
    timed("capture of the graph and its check", lambda: certificate(subject))
    timed("gradient", lambda: torch.func.grad(subject.loss)(subject.params))
    known = sum(timed("Gauss-Newton part", lambda: exact_traces(subject.fresh())).values())
    print(f"Gauss-Newton part: {known:.5g}", flush=True)
    uncertified = tuple(name for name, found in certificate(subject).items() if found)
    groups = residual(subject, uncertified).strata(generator)
    timed(f"{SAMPLES} products", lambda: [each.draw(SAMPLES) for each in groups])
    found = timed("trace", lambda: measure(f"trace[precision={precision}]", subject.fresh()))
    assert found.interval is not None
    low, high = found.interval
    print(
        f"trace {found.value:.5g}, 95 % in {low:.5g} to {high:.5g}, converged {found.converged}, "
        f"{found.details['products']:.0f} products, standard error over examples {found.stderr_examples}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, or read the weights, and measure."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data set cifar10-jpeg")
    parser.add_argument("--network", default="vit_tiny_patch16_224")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", type=float, default=0.01)
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    x, y = load_photographs(options.data, options.samples, options.size)
    model = Timm(options.network).build(tuple(x.shape[1:]), CLASSES)
    if options.weights and options.weights.exists():
        model.load_state_dict(torch.load(options.weights, weights_only=True))
    else:
        train(model, x, y)
        if options.weights:
            torch.save(model.state_dict(), options.weights)
    model.eval()
    print(f"torch {torch.__version__}, {options.threads} threads, {options.network} at {options.size}x{options.size}")
    print(f"{options.examples} of {len(y)} images, mean loss {mean_loss(model, x, y):.4f}", flush=True)
    measure_trace(Subject.from_module(model, x[: options.examples], y[: options.examples]), options.precision)


if __name__ == "__main__":
    main()
