"""What a Tracker costs: its share of the training time, and products per refresh from a warm and a cold start.

python benchmarks/tracking.py [--steps 200] [--output FOLDER]. Prints two tables and draws the products as
tracking-products.svg. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import sharpbench
from sharpbench import Subject, curvature
from sharpbench.core.registry import available
from sharpbench.core.spec import parse_spec
from sharpbench.datasets.digits import Digits

NETWORKS = {"lenet": (1, 28, 28), "timm:test_vit[size=32]": (3, 32, 32)}
TRAINING_BATCH, TRACKED = 512, 16
"""Examples of a training batch, and those that the tracker measures on."""
EVERY, ETA, MOMENTUM = 50, 0.05, 0.0
PILOT_STEPS = 5


def load_images(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Digits in the shape of a network's images."""
    data = Digits().load(None)
    images = nn.functional.interpolate(data.train_inputs, shape[1:], mode="bilinear")
    return images.expand(-1, shape[0], -1, -1).contiguous(), data.train_targets


def train(name: str, steps: int) -> dict[str, object]:
    """Train once with a tracker and once without; the seconds of each, and whether the weights are bit-equal."""
    shape = NETWORKS[name]
    inputs, targets = load_images(shape)
    found: dict[str, object] = {"network": name}
    weights = []
    for tracked in (True, False):
        torch.manual_seed(0)
        model = parse_spec(name, available("models").classes, kind="model").build(shape, 10).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=ETA, momentum=MOMENTUM)
        tracker = None
        for step in range(-PILOT_STEPS, steps):
            if step == 0:
                if tracked:
                    tracker = sharpbench.Tracker(
                        model,
                        "cross_entropy",
                        (inputs[:TRACKED], targets[:TRACKED]),
                        measures="top-eigenvalue,critical-sharpness",
                        every=EVERY,
                        optimizer=optimizer,
                        budget=None,
                    )
                began = time.perf_counter()
            places = torch.randperm(len(inputs))[:TRAINING_BATCH]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[places]), targets[places]).backward()
            optimizer.step()
            if tracker is not None:
                tracker.step(step)
        seconds = time.perf_counter() - began
        weights.append(list(model.state_dict().values()))
        if tracker is None:
            continue
        frame, estimates = tracker.frame, tracker.estimates
        products = [row["top-eigenvalue"].details["products"] for row in estimates[1:] if "top-eigenvalue" in row]
        found |= {
            "50 steps, s": round(EVERY * (seconds - float(frame["seconds"].sum())) / steps, 2),
            "first, s": round(float(frame["seconds"].iloc[0]), 2),
            "later, s": round(float(frame["seconds"].iloc[1:].mean()), 3),
            "products": round(statistics.fmean(map(float, map(str, products))), 1),
        }
    found["later share"] = f"{100 * float(str(found['later, s'])) / float(str(found['50 steps, s'])):.1f} %"
    found["weights"] = "bit-equal" if all(map(torch.equal, *weights)) else "differ"
    return found


def count_products(steps: int) -> dict[str, list[float]]:
    """Products per refresh along full-batch gradient descent of a small network, from warm and cold starts."""
    torch.manual_seed(0)
    inputs, targets = load_images((1, 8, 8))
    inputs, targets = inputs[:500].flatten(1), nn.functional.one_hot(targets[:500], 10).float()
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    subject = Subject.from_module(model, inputs, targets, loss="mse")
    draws, before = torch.Generator().manual_seed(0), None
    found: dict[str, list[float]] = {"step": [], "warm": [], "cold": [], "warm error": [], "cold error": []}
    for step in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()
        if step % EVERY:
            continue
        operator = curvature.held_operator(subject.with_params(dict(model.named_parameters())))
        exact = curvature.leading_eigenvalue(operator, generator=draws, tolerance=1e-5, steps=300).value
        before = curvature.follow_eigenvalue(operator, before, generator=draws)
        cold = curvature.follow_eigenvalue(operator, None, generator=draws)
        if before.warm:
            found["step"].append(step)
            for kind, each in (("warm", before), ("cold", cold)):
                found[kind].append(each.products)
                found[f"{kind} error"].append(abs(each.value / exact - 1))
    return found


def draw_products(found: dict[str, list[float]]) -> Figure:
    """The products of each refresh over the steps."""
    figure = Figure(figsize=(6, 2.8), dpi=120, layout="constrained")
    axes = figure.subplots()
    for kind, color in (("cold", "0.5"), ("warm", "#31688e")):
        axes.plot(found["step"], found[kind], ".-", color=color, label=f"{kind} start")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step")
    axes.set_ylabel("products with the Hessian")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Print the tables and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--output", type=Path, default=Path())
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [train(name, options.steps) for name in NETWORKS]
    for row in ({name: name for name in rows[0]}, *rows):
        print("  ".join(f"{value!s:>14}" for value in row.values()))
    found = count_products(15 * options.steps)
    for kind in ("warm", "cold"):
        mean, error = statistics.fmean(found[kind]), statistics.fmean(found[f"{kind} error"])
        print(f"{kind} start: {mean:.1f} products per refresh, mean relative error {error:.1e}")
    draw_products(found).savefig(options.output / "tracking-products.svg")


if __name__ == "__main__":
    main()
