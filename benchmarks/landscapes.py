"""The figures of docs/landscapes.md, and what a landscape of LeNet costs.

python benchmarks/landscapes.py [--output docs/images] [--lenet ROWS] [--threads 1]. Draws landscapes.png,
landscapes-rescaled.png and landscapes-trajectory.png; with --lenet it times ROWS rows of 51 points on 1,024 images.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import torch
from matplotlib import style
from matplotlib.figure import Figure
from torch import Tensor, nn

import sharpbench
from sharpbench import LandscapeOptions, Subject, measure_landscape
from sharpbench.core.registry import available
from sharpbench.core.spec import parse_spec
from sharpbench.datasets.digits import Digits
from sharpbench.landscapes.landscape import Landscape, iterate_landscape
from sharpbench.report.plots import FIGURE_STYLE, render_figure

EXAMPLES, STEPS, CHECKPOINTS_EVERY = 512, 60, 6
LENET_EXAMPLES = 1024


def load_digits() -> tuple[Tensor, Tensor]:
    """The first digits, as vectors."""
    data = Digits().load(None)
    return data.train_inputs[:EXAMPLES].flatten(1), data.train_targets[:EXAMPLES]


def train() -> tuple[nn.Sequential, list[dict[str, Tensor]]]:
    """A small network trained on digits by SGD with momentum, and its checkpoints."""
    torch.manual_seed(0)
    inputs, targets = load_digits()
    model = nn.Sequential(nn.Linear(inputs.shape[1], 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    states = [copy.deepcopy(model.state_dict())]
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        if step % CHECKPOINTS_EVERY == 0:
            states.append(copy.deepcopy(model.state_dict()))
    return model, states


def rescale(model: nn.Sequential) -> nn.Sequential:
    """The same function, with each unit of the first hidden layer rescaled by a random factor."""
    other = copy.deepcopy(model)
    factors = torch.randn(32, generator=torch.Generator().manual_seed(1)).mul(1.5).exp()
    with torch.no_grad():
        other[0].weight.mul_(factors[:, None])
        other[0].bias.mul_(factors)
        other[2].weight.div_(factors)
    return other


def draw_pairs(found: dict[str, Landscape]) -> Figure:
    """The contours of several landscapes on one scale."""
    figure = Figure(figsize=(10, 2.9), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(found), sharex=True, sharey=True)
    levels = torch.logspace(-2.4, 1, 28).tolist()
    for axes, (title, each) in zip(panels, found.items(), strict=True):
        losses = each.losses.clamp(1.001 * levels[0], levels[-1]).numpy()
        axes.contourf(*each.grid, losses, levels=levels, cmap="viridis", norm="log", extend="both")
        axes.set_title(title, fontsize=8.5)
        axes.tick_params(labelsize=7)
        axes.set_aspect("equal")
    return figure


def clock_lenet(rows: int) -> None:
    """Print the seconds that rows of 51 points take."""
    torch.manual_seed(0)
    model = parse_spec("lenet", available("models").classes, kind="model").build((1, 28, 28), 10)
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(LENET_EXAMPLES, 1, 28, 28, generator=draws)
    targets = torch.randint(10, (LENET_EXAMPLES,), generator=draws)
    subject = Subject.from_module(model, inputs, targets)
    steps = iterate_landscape({"lenet": subject}, LandscapeOptions(balance="none"))
    began: tuple[float, float] | None = None
    for step in steps:
        if step == "row 1 of 51":
            began = time.perf_counter(), time.process_time()
        if step == f"row {rows + 1} of 51" and began is not None:
            wall, processor = time.perf_counter() - began[0], time.process_time() - began[1]
            print(f"lenet, {LENET_EXAMPLES} images, {torch.get_num_threads()} threads: {rows} rows of 51 points")
            print(f"  {wall / rows:.2f} s a row, {processor / rows:.2f} s of processor time")
            break


def main() -> None:
    """Draw the figures and print the numbers of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--lenet", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.lenet:
        clock_lenet(options.lenet)
        return
    model, states = train()
    inputs, targets = load_digits()
    subject_of = sharpbench.Subject.from_module
    subjects = {"as trained": subject_of(model, inputs, targets), "copy": subject_of(rescale(model), inputs, targets)}
    figures: dict[str, Figure] = {}
    found = measure_landscape(subjects["as trained"])
    copied = measure_landscape(subjects["copy"])
    plain = {name: measure_landscape(each, LandscapeOptions(balance="none")) for name, each in subjects.items()}
    with style.context(["default", FIGURE_STYLE]):
        figures["landscapes"] = found.draw()
        titles = ("as trained", "rescaled copy", "as trained, balanced", "rescaled copy, balanced")
        panels = (*plain.values(), found, copied)
        figures["landscapes-rescaled"] = draw_pairs(dict(zip(titles, panels, strict=True)))
        trajectory = measure_landscape(
            subjects["as trained"],
            LandscapeOptions(directions="trajectory"),
            checkpoints={f"step {place * CHECKPOINTS_EVERY}": state for place, state in enumerate(states)},
        )
        figures["landscapes-trajectory"] = trajectory.draw()
        for name, figure in figures.items():
            (options.output / f"{name}.png").write_bytes(render_figure(figure)[".png"])
    for name, each in (("random", found), ("trajectory", trajectory)):
        assert each.share is not None
        print(f"{name}: trace {each.share.trace:.4g}, share of the plane {each.share.share:.3g}; {each.facts}")
    print(f"largest difference, balanced: {float((found.losses - copied.losses).abs().max()):.1e}")
    one, two = (each.losses for each in plain.values())
    print(f"largest difference, as they are: {float((one - two).abs().max()):.1e}")


if __name__ == "__main__":
    main()
