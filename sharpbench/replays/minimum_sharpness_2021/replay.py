"""Minimum Sharpness (Ibayashi, Hamaguchi, Imaizumi 2021): its archive analyzed again, its experiments repeated."""

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
from sharpbench.replays.minimum_sharpness_2021.archive import read_archive
from sharpbench.replays.minimum_sharpness_2021.solver import SOLVER_COLUMN, add_solver_column
from sharpbench.replays.minimum_sharpness_2021.studies import DiagonalStudy, TraceStudy
from sharpbench.replays.replay import Experiment, Replay
from sharpbench.replays.tables import environment_section, networks_table
from sharpbench.report.page import Page
from sharpbench.training.cohorts import LabelNoise, LabelNoisePaper
from sharpbench.training.recipe import Recipe

MODELS: tuple[Model, ...] = (Mlp(), LeNet())
SMALL_MODELS: tuple[Model, ...] = (SmallMlp(), SmallCnn())
MEASURES = "trace,minimum,normalized"


@dataclass(frozen=True)
class MinimumSharpness2021(Replay):
    """Figures 1 to 4 and the table of the paper.

    Scales: "archive" uses only the published data, "quick" repeats the experiments in minutes, "paper" in full size.
    """

    name: ClassVar[str] = "minimum-sharpness-2021"
    title: ClassVar[str] = "Minimum Sharpness, replayed"
    source: ClassVar[str] = (
        "Ibayashi, Hamaguchi, Imaizumi 2021, Minimum Sharpness: Scale-invariant Parameter-robustness of Neural "
        "Networks, arXiv 2106.12612"
    )
    scales: ClassVar[tuple[str, ...]] = ("archive", "quick", "paper")

    def experiment(self, scale: str) -> Experiment | None:
        """See Replay."""
        return {"quick": _quick_experiment, "paper": _paper_experiment}[scale]() if scale != "archive" else None

    def page(self, scale: str, records: Sequence[Record], findings: Mapping[str, pd.DataFrame]) -> Page:
        """See Replay."""
        published = _renamed_archive()
        found = [sections.archive_section(published)]
        experiment = self.experiment(scale)
        if experiment is not None:
            table = add_solver_column(networks_table(records))
            found += [
                sections.correlation_section(published, table, experiment.title),
                sections.convergence_section(table),
                sections.trace_section(findings[TraceStudy.name]),
                sections.diagonal_section(findings[DiagonalStudy.name]),
            ]
        return Page(self.title, (*found, environment_section(records, self.source)))


def _quick_experiment() -> Experiment:
    cohort, dataset = LabelNoise(ratios=6, seeds=5), Digits()
    clean = _clean_recipes(cohort.recipes(SMALL_MODELS, dataset))
    return Experiment(
        title="6 label-noise ratios x 5 seeds of mlp and lenet, each trained on 256 of scikit-learn's digits until the "
        "training loss is 0.01, tested on 360; the paper has 11 x 10 networks on 60,000 images of MNIST",
        measures=MEASURES,
        dataset=dataset,
        cohorts=((cohort, MODELS),),
        studies=(
            TraceStudy(recipes=clean, examples=1000, entries=32),
            DiagonalStudy(recipes=clean, examples=64, samples=(1, 3, 10, 30, 100)),
        ),
    )


def _paper_experiment() -> Experiment:
    cohort, dataset = LabelNoisePaper(), Mnist()
    clean = _clean_recipes(cohort.recipes((*SMALL_MODELS, *MODELS), dataset))
    return Experiment(
        title="the paper's: 11 label-noise ratios x 10 seeds of mlp and lenet on 60,000 images of MNIST, batches of "
        "1,024; but a network that has fitted to a training loss of 1e-4 stops",
        measures=MEASURES,
        dataset=dataset,
        cohorts=((cohort, MODELS),),
        studies=(
            TraceStudy(recipes=clean, examples=1000, entries=256),
            DiagonalStudy(recipes=clean[:2], examples=1000, samples=(1, 10, 100, 1000, 10_000)),
        ),
        train_size=60_000,
    )


def _clean_recipes(recipes: Sequence[Recipe]) -> tuple[Recipe, ...]:
    """The first recipe of each model, which has no label noise and seed 0."""
    return tuple({recipe.model: recipe for recipe in reversed(recipes)}.values())[::-1]


def _renamed_archive() -> pd.DataFrame:
    """The archive with our names of measures. Its minimum sharpness is also the value that the solver leaves."""
    table = read_archive().rename(columns={"minimum_sharpness": "minimum", "normalized_sharpness": "normalized"})
    return table.assign(**{SOLVER_COLUMN: table["minimum"]})
