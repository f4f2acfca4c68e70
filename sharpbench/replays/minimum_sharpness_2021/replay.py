"""Minimum Sharpness (Ibayashi, Hamaguchi, Imaizumi 2021): its archive judged again, its experiments from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from sharpbench.core.record import Record
from sharpbench.datasets import Digits, Mnist
from sharpbench.models.model import Model
from sharpbench.models.paper import LeNet, Mlp, SmallCnn, SmallMlp
from sharpbench.replays.minimum_sharpness_2021 import sections
from sharpbench.replays.minimum_sharpness_2021.archive import archive
from sharpbench.replays.minimum_sharpness_2021.solver import SOLVER, with_solver
from sharpbench.replays.minimum_sharpness_2021.studies import Diagonals, Traces
from sharpbench.replays.replay import Experiment, Replay
from sharpbench.replays.tables import environment_section, networks_frame
from sharpbench.report.page import Page
from sharpbench.training.cohorts import LabelNoise, LabelNoisePaper
from sharpbench.training.recipe import Recipe

MODELS: tuple[Model, ...] = (Mlp(), LeNet())
SMALL: tuple[Model, ...] = (SmallMlp(), SmallCnn())
MEASURES = "trace,minimum,normalized"


@dataclass(frozen=True)
class MinimumSharpness2021(Replay):
    """Figures 1 to 4 and the table; scales: the archive alone; quick, from scratch in minutes; the paper's own."""

    name: ClassVar[str] = "minimum-sharpness-2021"
    title: ClassVar[str] = "Minimum Sharpness, replayed"
    source: ClassVar[str] = (
        "Ibayashi, Hamaguchi, Imaizumi 2021, Minimum Sharpness: Scale-invariant Parameter-robustness of Neural "
        "Networks, arXiv 2106.12612"
    )
    scales: ClassVar[tuple[str, ...]] = ("archive", "quick", "paper")

    def experiment(self, scale: str) -> Experiment | None:
        """See Replay."""
        return {"quick": _quick, "paper": _paper}[scale]() if scale != "archive" else None

    def page(self, scale: str, records: Sequence[Record], findings: Mapping[str, pd.DataFrame]) -> Page:
        """See Replay."""
        published = _archive()
        found = [sections.of_the_archive(published)]
        experiment = self.experiment(scale)
        if experiment is not None:
            table = with_solver(networks_frame(records))
            found += [
                sections.correlation(published, table, experiment.title),
                sections.convergence(table),
                sections.traces(findings[Traces.name]),
                sections.diagonals(findings[Diagonals.name]),
            ]
        return Page(self.title, (*found, environment_section(records, self.source)))


def _quick() -> Experiment:
    cohort, dataset = LabelNoise(ratios=6, seeds=5), Digits()
    clean = _clean(cohort.recipes(SMALL, dataset))
    return Experiment(
        title="6 label-noise ratios x 5 seeds of mlp and lenet, each trained on 256 of scikit-learn's digits until the "
        "training loss is 0.01, tested on 360; the paper has 11 x 10 networks on 60,000 images of MNIST",
        measures=MEASURES,
        dataset=dataset,
        cohorts=((cohort, MODELS),),
        studies=(
            Traces(recipes=clean, examples=1000, entries=32),
            Diagonals(recipes=clean, examples=64, samples=(1, 3, 10, 30, 100)),
        ),
    )


def _paper() -> Experiment:
    cohort, dataset = LabelNoisePaper(), Mnist()
    clean = _clean(cohort.recipes((*SMALL, *MODELS), dataset))
    return Experiment(
        title="the paper's: 11 label-noise ratios x 10 seeds of mlp and lenet on 60,000 images of MNIST, batches of "
        "1,024; but a network that has fitted to a training loss of 1e-4 stops",
        measures=MEASURES,
        dataset=dataset,
        cohorts=((cohort, MODELS),),
        studies=(
            Traces(recipes=clean, examples=1000, entries=256),
            Diagonals(recipes=clean[:2], examples=1000, samples=(1, 10, 100, 1000, 10_000)),
        ),
        train_size=60_000,
    )


def _clean(recipes: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """The first recipe of each model: no label noise, seed 0."""
    return tuple({recipe.model: recipe for recipe in reversed(recipes)}.values())[::-1]


def _archive() -> pd.DataFrame:
    """The archive with measures by our names; what it calls minimum is what the solver leaves."""
    table = archive().rename(columns={"minimum_sharpness": "minimum", "normalized_sharpness": "normalized"})
    return table.assign(**{SOLVER: table["minimum"]})
