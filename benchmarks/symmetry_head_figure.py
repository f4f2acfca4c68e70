"""The figure of docs/symmetry.md of one head's spectrum before and after minimum[scope=full].

    python benchmarks/symmetry_head_figure.py [docs/images/symmetry-head.svg]

Trains timm's test_vit for a moment on the embedded digits (seeded), finds the minimum over its full symmetry, and draws
the eigenvalues of the partial traces A and B of two pairs of one head, of the trained network and of the balanced one.
Prints the traces at each scope.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import torch
from torch import Tensor, nn

from sharpbench import Subject
from sharpbench.curvature import Section, exact_traces, partial_traces
from sharpbench.datasets.digits import Digits
from sharpbench.environment import import_timm
from sharpbench.symmetry import (
    FullGroup,
    diagonal_for,
    full_group,
    group_of,
    minimise_full,
    minimum_trace,
)

EXAMPLES, STEPS, SIZE = 256, 150, 32
PAIRS = {"queries and keys": 0, "values and output": 1}
COLOURS = {"A": "#0072B2", "B": "#D55E00"}


def trained() -> Subject:
    """test_vit after some steps of Adam on images of SIZE x SIZE, and the examples that it saw."""
    torch.manual_seed(0)
    data = Digits().load(None)
    images, targets = data.train_inputs[:EXAMPLES], data.train_targets[:EXAMPLES]
    inputs = nn.functional.interpolate(images, size=(SIZE, SIZE), mode="bilinear").expand(-1, 3, -1, -1).contiguous()
    model = import_timm().create_model("test_vit", num_classes=10, img_size=SIZE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(STEPS):
        chosen = torch.randint(len(inputs), (64,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
        optimiser.step()
    return Subject.from_module(model.eval().double(), inputs.double(), targets)


def spectra(subject: Subject, group: FullGroup) -> dict[str, tuple[Tensor, Tensor]]:
    """By pair the eigenvalues of A and B, descending, for the first block of each kind."""
    found = {}
    for title, number in PAIRS.items():
        block = next(each for each in group.blocks if (len({at.parameter for at in each.occurrences}) > 2) == number)
        sums = []
        for inverse in (False, True):
            sections = [
                Section(each.parameter, each.axis, indices)
                for each in block.occurrences
                if each.inverse == inverse
                for indices in each.indices.T
            ]
            total = torch.stack([matrices.sum(0) for matrices in partial_traces(subject, sections)[1]]).sum(0)
            sums.append(torch.linalg.eigvalsh(total).flip(0).clamp_min(0))
        found[title] = (sums[0], sums[1])
    return found


def draw(before: dict[str, tuple[Tensor, Tensor]], after: dict[str, tuple[Tensor, Tensor]], path: Path) -> None:
    """One panel per pair."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "sharpbench"
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(PAIRS), figsize=(10, 4), layout="constrained")
    for panel, title in zip(panels, PAIRS, strict=True):
        for name, trained_values, balanced in zip(COLOURS, before[title], after[title], strict=True):
            ranks = range(1, len(trained_values) + 1)
            panel.plot(ranks, trained_values, ".-", color=COLOURS[name], label=f"{name}, as trained")
            style = {"A": "x", "B": "+"}[name]
            panel.plot(ranks, balanced, style, color=COLOURS[name], label=f"{name}, at the minimum")
        panel.set(yscale="log", xlabel="rank", ylabel="eigenvalue of the partial trace", title=title)
        panel.set_ylim(bottom=1e-6 * float(max(values[0] for values in before[title])))
        panel.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Draw, and print the traces."""
    subject = trained()
    group = full_group(subject.module, subject.inputs[:2], generator=torch.Generator().manual_seed(0))
    solved = minimise_full(subject, group)
    print(f"as trained: {sum(exact_traces(subject).values()):.6g}")
    for scope in ("layer", "unit"):
        rescalings = group_of(subject.graph, set(subject.params), scope=scope)
        print(f"{scope}: {minimum_trace(rescalings, diagonal_for(rescalings, subject)).value:.6g}")
    print(f"full: {solved.value:.6g}, attained: {not solved.vanishing}")
    before, after = spectra(subject, group), spectra(subject.with_params(solved.params), group)
    for title in PAIRS:
        for label, (first, second) in (("as trained", before[title]), ("at the minimum", after[title])):
            print(f"{title}, {label}: tr A {float(first.sum()):.4g}, tr B {float(second.sum()):.4g}")
    draw(before, after, Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/symmetry-head.svg"))


if __name__ == "__main__":
    main()
