"""The figure of docs/symmetry.md: how minimum sharpness balances a network.

    python benchmarks/symmetry_figure.py [docs/images/symmetry.svg]

Trains lenet for a moment on the embedded digits (seeded, some seconds), finds the minimum trace with one scale per
layer and with one per unit, and draws the trace of each tensor, and what goes into each hidden unit against what goes
out. Prints the sums.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor, nn

from sharpbench import Subject
from sharpbench.curvature import exact_diagonal
from sharpbench.datasets.digits import Digits
from sharpbench.models.paper import LeNet
from sharpbench.symmetry import SCOPES, balance

EXAMPLES, STEPS = 512, 300
COLOURS = {"as trained": "#888888", "layer": "#0072B2", "unit": "#D55E00"}


def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """lenet after some steps of Adam, and the examples that it saw."""
    torch.manual_seed(0)
    data = Digits().load(None)
    inputs, targets = data.train_inputs[:EXAMPLES], data.train_targets[:EXAMPLES]
    model = LeNet().build(tuple(inputs.shape[1:]), 10)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(STEPS):
        chosen = torch.randint(len(inputs), (64,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
        optimiser.step()
    return model, inputs, targets


def diagonals() -> dict[str, dict[str, np.ndarray]]:
    """The exact diagonal by tensor, of the trained network and of its two balanced equivalents."""
    model, inputs, targets = trained()
    states = {"as trained": model.state_dict()}
    states.update({scope: balance(Subject.from_module(model, inputs, targets), scope=scope) for scope in SCOPES})
    found = {}
    for label, state in states.items():
        subject = Subject.from_module(model, inputs, targets).with_params(dict(state))
        found[label] = {name: value.double().numpy() for name, value in exact_diagonal(subject).items()}
    return found


def draw(found: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """Left: the trace of each tensor. Right: each unit of the last hidden layer, incoming against outgoing."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "sharpbench"
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", width_ratios=(3, 2))
    names = list(found["as trained"])
    for offset, (label, diagonal) in enumerate(found.items()):
        traces = [diagonal[name].sum() for name in names]
        title = f"{label}: {sum(traces):.3g}" if label == "as trained" else f"minimum, {label}: {sum(traces):.3g}"
        left.bar(np.arange(len(names)) + 0.27 * (offset - 1), traces, 0.25, label=title, color=COLOURS[label])
        into = diagonal["layer3.weight"].sum(1) + diagonal["layer3.bias"]
        out = diagonal["layer4.weight"].sum(0)
        right.scatter(into, out, s=12, color=COLOURS[label], label=label)
    left.set(yscale="log", ylabel="trace of the Hessian's block", xticks=range(len(names)))
    left.set_xticklabels([name.removeprefix("layer") for name in names], rotation=45, ha="right")
    left.set_ylim(top=50 * left.get_ylim()[1])  # room for the legend
    left.legend(title="trace", fontsize="small", loc="upper left")
    ends = [min(right.get_xlim()[0], right.get_ylim()[0]), max(right.get_xlim()[1], right.get_ylim()[1])]
    right.plot(ends, ends, color="black", linewidth=0.6, zorder=0)
    right.set(xscale="log", yscale="log", xlabel="incoming: row of layer 3", ylabel="outgoing: column of layer 4")
    right.legend(title="units of a hidden layer", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Draw, and print the sums."""
    found = diagonals()
    for label, diagonal in found.items():
        print(f"{label}: {sum(value.sum() for value in diagonal.values()):.6g}")
    draw(found, Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/symmetry.svg"))


if __name__ == "__main__":
    main()
