"""The edge of stability (Cohen et al. 2021, 2022; Andreyev, Beneventano 2024) on a small network, by the tracker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from sharpbench.core.random_state import random_state_kept
from sharpbench.core.record import Record
from sharpbench.datasets.digits import Digits, read_digits
from sharpbench.files import Workspace
from sharpbench.replays.figures import COLORS
from sharpbench.replays.replay import Experiment, Replay
from sharpbench.replays.study import Row, Study
from sharpbench.report.page import Page, Picture, Section
from sharpbench.tracking.tracker import Tracker

CLASSES, WIDTH = 10, 32
"""Outputs, and units of each of the two hidden layers."""
LAST_SHARE = 4
"""Equal parts of the steps; a value is compared with its bound over the last part."""
BATCH = 32
"""Examples of a batch of SGD, the default of batch-sharpness."""
MEASURED = 100
"""Measurements of each run."""


@dataclass(frozen=True, kw_only=True)
class EdgeRun(Study):
    """One network trained at a constant learning rate, and what the tracker found on the way.

    examples: of scikit-learn's digits, centred. seed: of the initial weights and the batches.
    """

    optimizer: Literal["gradient-descent", "sgd", "adam"]
    eta: float
    steps: int
    examples: int
    seed: int = 0

    @property
    def name(self) -> str:  # type: ignore[override]  # one file for each optimizer
        """The name of its file."""
        return self.optimizer

    @property
    def measure(self) -> str:
        """The column of the quantity that the theory bounds."""
        names = {"sgd": "batch-sharpness", "adam": "preconditioned-sharpness", "gradient-descent": "top-eigenvalue"}
        return names[self.optimizer]

    def rows(self, workspace: Workspace) -> Iterator[Row]:
        """See Study: step, loss, value, bound, and the top eigenvalue."""
        with random_state_kept():
            torch.manual_seed(self.seed)
            model = _make_network().to(workspace.device)
            inputs, targets = (each.to(workspace.device) for each in _load_examples(self.examples))
            make = torch.optim.Adam if self.optimizer == "adam" else torch.optim.SGD
            optimizer = make(model.parameters(), lr=self.eta)
            measures = list(dict.fromkeys((self.measure, "top-eigenvalue")))
            every = self.steps // MEASURED
            with Tracker(
                model, "mse", (inputs, targets), measures=measures, every=every, optimizer=optimizer, budget=None
            ) as tracker:
                for step in range(self.steps + 1):
                    places = torch.randperm(self.examples)[:BATCH] if self.optimizer == "sgd" else slice(None)
                    optimizer.zero_grad()
                    nn.functional.mse_loss(model(inputs[places]), targets[places]).backward()
                    optimizer.step()
                    row = tracker.step(step)
                    if row is not None:
                        shown = {name: row[name] for name in ("step", "loss", "bound", "top-eigenvalue")}
                        yield {**shown, "value": row[self.measure]}


def _make_network() -> nn.Module:
    return nn.Sequential(nn.Linear(64, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES))


def _load_examples(count: int) -> tuple[Tensor, Tensor]:
    """The first digits: 64 pixels in [0, 1], centred, and targets as unit vectors."""
    images, classes = read_digits()
    inputs = images[:count].flatten(1).float() / 16
    targets = nn.functional.one_hot(classes[:count], CLASSES).float()
    return inputs - inputs.mean(0), targets


@dataclass(frozen=True)
class Claim:
    """What the papers state of one run, in words, and how near to it the replay has to come."""

    run: EdgeRun
    title: str
    quantity: str
    bound: str
    tolerance: float


CLAIMS = (
    Claim(
        EdgeRun(recipes=(), optimizer="gradient-descent", eta=2.0, steps=3000, examples=500),
        "gradient descent",
        "largest eigenvalue",
        "2/eta",
        0.02,
    ),
    Claim(
        EdgeRun(recipes=(), optimizer="sgd", eta=3.0, steps=60_000, examples=1000),
        f"SGD, batches of {BATCH}",
        "batch sharpness",
        "2/eta",
        0.05,
    ),
    Claim(
        EdgeRun(recipes=(), optimizer="adam", eta=0.002, steps=4000, examples=500),
        "Adam, full batch",
        "preconditioned sharpness",
        "38/eta",
        0.02,
    ),
)


@dataclass(frozen=True)
class EdgeOfStability2021(Replay):
    """Trains one network each by gradient descent, SGD and Adam, and compares the sharpness with its bound."""

    name: ClassVar[str] = "edge-of-stability-2021"
    title: ClassVar[str] = "The edge of stability, replayed on a small network"
    source: ClassVar[str] = (
        "Cohen, Kaur, Li, Kolter, Talwalkar 2021, Gradient Descent on Neural Networks Typically Occurs at the Edge of "
        "Stability, arXiv 2103.00065; Cohen et al. 2022, Adaptive Gradient Methods at the Edge of Stability, arXiv "
        "2207.14484; Andreyev, Beneventano 2024, Edge of Stochastic Stability, arXiv 2412.20553"
    )
    scales: ClassVar[tuple[str, ...]] = ("quick",)

    def experiment(self, scale: str) -> Experiment | None:
        """See Replay: three networks that are trained by plain loops, and no cells."""
        title = f"three networks of {WIDTH} and {WIDTH} tanh units on digits, mean squared error"
        return Experiment(
            title=title, measures="", dataset=Digits(), cohorts=(), studies=tuple(claim.run for claim in CLAIMS)
        )

    def page(self, scale: str, records: Sequence[Record], findings: Mapping[str, pd.DataFrame]) -> Page:
        """See Replay."""
        blocks = (
            f"A network of two hidden layers of {WIDTH} tanh units on scikit-learn's digits, mean squared error, "
            "constant learning rate eta, no weight decay. The sharpness rises until the next step would be unstable "
            "on a quadratic, and stays there while the loss goes on falling.",
            edge_table(findings),
            "at the end: the mean over the last quarter of the steps. by the bound: that mean divided by the bound; "
            "within: the distance from 1 that this replay allows.",
            Picture("edge", "Each quantity over the steps, with its bound.", lambda: draw_edges(findings)),
        )
        return Page(self.title, (Section("Sharpness and its bound", blocks), Section("Source", (f"{self.source}.",))))


def edge_ratio(claim: Claim, table: pd.DataFrame) -> float:
    """The mean of the quantity over the last quarter of the steps, divided by its bound."""
    late = table[table["step"] >= claim.run.steps * (1 - 1 / LAST_SHARE)]
    return float(np.mean(late["value"].astype(float) / late["bound"].astype(float)))


def edge_table(findings: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per run: the quantity, its bound and its value at the end, as text."""
    rows = []
    for claim in CLAIMS:
        table = findings[claim.run.name]
        ratio, bound = edge_ratio(claim, table), float(table["bound"].iloc[-1])
        inside = abs(ratio - 1) <= claim.tolerance
        rows.append(
            {
                "optimizer": claim.title,
                "eta": f"{claim.run.eta:g}",
                "quantity": claim.quantity,
                "bound": f"{claim.bound} = {bound:.4g}",
                "at the end": f"{ratio * bound:.4g}",
                "by the bound": f"{ratio:.3f}",
                "within": f"{100 * claim.tolerance:.0f} %: {'yes' if inside else 'no'}",
            }
        )
    return pd.DataFrame(rows)


def draw_edges(findings: Mapping[str, pd.DataFrame]) -> Figure:
    """Above the quantity of each run with its bound, below the loss."""
    figure = Figure(figsize=(3.4 * len(CLAIMS), 4.6), dpi=120, layout="constrained")
    grid = figure.subplots(2, len(CLAIMS), squeeze=False, sharex="col", gridspec_kw={"height_ratios": (2, 1)})
    for (upper, lower), claim in zip(grid.T, CLAIMS, strict=True):
        table = findings[claim.run.name]
        if claim.run.optimizer == "sgd":
            upper.plot(
                table["step"], table["top-eigenvalue"], color=COLORS[2], linewidth=1.0, label="largest eigenvalue"
            )
        upper.plot(table["step"], table["value"], color=COLORS[1], linewidth=1.2, label=claim.quantity)
        upper.plot(table["step"], table["bound"], "--", color=COLORS[0], linewidth=1.0, label=claim.bound)
        upper.set_ylim(0, 1.5 * float(table["bound"].iloc[-1]))
        upper.set_title(claim.title, fontsize=9)
        upper.legend(fontsize=8, frameon=False, loc="lower right")
        lower.semilogy(table["step"], table["loss"], color=COLORS[4], linewidth=1.0)
        for axes in (upper, lower):
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
    grid[1][0].set_ylabel("loss", fontsize=9)
    figure.supxlabel("step", fontsize=9)
    return figure
