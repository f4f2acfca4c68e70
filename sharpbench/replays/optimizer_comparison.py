"""Comparison: optimisers on the same task, trained to the same loss: who generalises better, and what measures say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sharpbench.analysis.statistics import Difference, paired_mean
from sharpbench.core.record import Record
from sharpbench.core.spec import format_spec
from sharpbench.datasets import Digits
from sharpbench.datasets.dataset import Dataset
from sharpbench.models.model import Model
from sharpbench.replays import figures
from sharpbench.replays.replay import Experiment, Replay
from sharpbench.replays.tables import difference_text, environment_section, networks_frame, table_correlations, tau_text
from sharpbench.report.format import MISSING, format_number
from sharpbench.report.page import Page, Picture, Section
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.optimizers import Optimizer
from sharpbench.training.recipe import Recipe


@dataclass(frozen=True)
class Contestants(Cohort):
    """Each model by each of `optimizers`, `seeds` networks each, trained until the same training loss is reached."""

    name: ClassVar[str] = "contestants"
    title: ClassVar[str] = "optimisers at matched training loss"
    source: ClassVar[str] = "sizes are our own"
    optimizers: tuple[Optimizer, ...]
    seeds: int
    label_noise: float = 0.0
    train_size: int = 256
    learning_rate: float = 0.02
    batch_size: int = 64
    max_epochs: int = 600
    target_loss: float = 0.01

    def recipes(self, models: Sequence[Model], dataset: Dataset) -> tuple[Recipe, ...]:
        """See Cohort.recipes."""
        return tuple(
            Recipe(
                model=model,
                dataset=dataset,
                label_noise=self.label_noise,
                train_size=self.train_size,
                optimizer=optimizer,
                learning_rate=self.learning_rate,
                batch_size=self.batch_size,
                decay=1e-4,
                max_epochs=self.max_epochs,
                target_loss=self.target_loss,
                seed=seed,
            )
            for model in models
            for optimizer in self.optimizers
            for seed in range(self.seeds)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """By how much networks of one optimiser differ from those of another in a column, paired by seed.

    task: model and label noise. logarithmic: of the natural logarithm of the column, a ratio in disguise.
    """

    task: str
    column: str
    one: str
    other: str
    logarithmic: bool
    difference: Difference


def training_tasks(table: pd.DataFrame) -> pd.DataFrame:
    """`table` of networks with the column `task`, model and label noise in words, in the order of the table."""
    words = table["model"] + np.where(table["label_noise"] > 0, table["label_noise"].map(" (noise {:g})".format), "")
    return table.assign(task=words)


def paired_contrasts(
    table: pd.DataFrame, columns: Sequence[str], pairs: Sequence[tuple[str, str]], *, logarithmic: bool
) -> list[Contrast]:
    """For each task, column and pair of optimisers the mean difference over seeds at which both networks fitted.

    table: networks with `task`, optimizer, seed and fitted. Of values at or below 0 there is no logarithm: their pairs
    are left out.
    """
    fitted, found = table[table["fitted"]], []
    for task in table["task"].unique():
        rows = fitted[fitted["task"] == task]
        for column in columns:
            values = rows.pivot(index="seed", columns="optimizer", values=column).reindex(
                columns=table["optimizer"].unique()
            )
            if logarithmic:
                values = np.log(values.where(values > 0))
            for one, other in pairs:
                difference = paired_mean(values[one].to_numpy(float), values[other].to_numpy(float))
                found.append(
                    Contrast(
                        task=str(task),
                        column=column,
                        one=one,
                        other=other,
                        logarithmic=logarithmic,
                        difference=difference,
                    )
                )
    return found


# Generalisation: the page of a comparison of optimisers, the same for every paper that proposes one.

MEASURES = "sam,asam,adaptive[case=average-closed],trace,minimum,normalized"
SHOWN = (
    "sam",
    "asam",
    "adaptive[case=average-closed]",
    "trace",
    "minimum",
    "normalized",
    "parameter_norm",
    "train_loss",
)
BASELINES = {"parameter_norm": "(parameter norm)", "train_loss": "(training loss)"}
SEEDS = 8
Tasks = tuple[tuple[float, tuple[Model, ...]], ...]
"""Label noise, and who is trained with it."""
POINTS = 0.01
"""A percentage point of accuracy."""


@dataclass(frozen=True)
class GeneralizationReplay(Replay):
    """A replay that asks whether the last of its optimisers generalise better than those before, at equal loss.

    tasks: what is trained, and `size` in words. optimizers: the first is the baseline of measures. pairs: of which the
    test accuracy is compared.
    """

    scales: ClassVar[tuple[str, ...]] = ("quick",)
    optimizers: ClassVar[tuple[Optimizer, ...]]
    pairs: ClassVar[tuple[tuple[Optimizer, Optimizer], ...]]
    tasks: ClassVar[Tasks]
    size: ClassVar[str]
    remark: ClassVar[str]

    def experiment(self, scale: str) -> Experiment:
        """See Replay."""
        return Experiment(
            title=f"{self.size}, on 256 of scikit-learn's digits, {SEEDS} seeds each, trained until the training loss "
            "is 0.01 and all labels fit, tested on 360 digits",
            measures=MEASURES,
            dataset=Digits(),
            cohorts=tuple(
                (Contestants(optimizers=self.optimizers, seeds=SEEDS, label_noise=noise), models)
                for noise, models in self.tasks
            ),
        )

    def page(self, scale: str, records: Sequence[Record], findings: Mapping[str, pd.DataFrame]) -> Page:
        """See Replay."""
        table = training_tasks(networks_frame(records))
        pairs = [(format_spec(one), format_spec(other)) for one, other in self.pairs]
        first = format_spec(self.optimizers[0])
        others = [(format_spec(each), first) for each in self.optimizers[1:]]
        accuracy = paired_contrasts(table, ["test_accuracy"], pairs, logarithmic=False)
        sharpness = paired_contrasts(table, SHOWN, others, logarithmic=True)
        return Page(
            self.title,
            (
                Section(
                    "Do they generalise better?",
                    (
                        f"Size: {self.experiment(scale).title}; one rate for all, no tuning. {self.remark}",
                        _networks(table),
                        "Differences of test accuracy in percentage points, paired by seed, with 95 % intervals "
                        "(Student's t). Networks of one seed share their images alone, nothing random. The intervals "
                        "are not corrected for their number, and speak of training again, not of other test images.",
                        _accuracy(accuracy),
                        _verdict(accuracy),
                        Picture("accuracy", "Differences of test accuracy", lambda: _accuracy_figure(accuracy)),
                    ),
                ),
                Section(
                    "Do the measures see it?",
                    (
                        f"Each measure over its value for {first}: geometric means over seeds, with 95 % intervals "
                        "from the paired logarithms. Below 1: flatter. Training stops at the first epoch that reaches "
                        "the loss, so that even the training loss differs a little; it is in the table.",
                        _ratios(sharpness),
                        Picture("sharpness", f"Measures relative to {first}", lambda: _ratio_figure(sharpness)),
                        f"Kendall's tau of the measures with the gap, over the fitted networks of a task, and within "
                        f"those of one optimiser (at most {SEEDS} networks each).",
                        _taus(table),
                    ),
                ),
                environment_section(records, self.source),
            ),
        )


def _networks(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (task, optimizer), each in table.groupby(["task", "optimizer"], sort=False):
        fitted = each[each["fitted"]]
        accuracy = fitted["test_accuracy"]
        rows.append(
            {
                "task": str(task),
                "optimizer": str(optimizer),
                "fitted": f"{len(fitted)}/{len(each)}",
                "training loss": format_number(fitted["train_loss"].mean()) if len(fitted) else MISSING,
                "epochs": format_number(fitted["epochs"].mean()) if len(fitted) else MISSING,
                "test accuracy, %": f"{accuracy.mean():.2%} ± {accuracy.std():.2%}".replace("%", "")
                if len(fitted) > 1
                else MISSING,
            }
        )
    return pd.DataFrame(rows)


def _accuracy(found: Sequence[Contrast]) -> pd.DataFrame:
    rows: dict[str, dict[str, str]] = {}
    for each in found:
        pair = f"{each.one} - {each.other}"
        row = rows.setdefault(pair, {"difference": pair})
        row[each.task] = difference_text(each.difference, unit=POINTS)
    return pd.DataFrame(list(rows.values()))


def _verdict(found: Sequence[Contrast]) -> str:
    """Of each pair, in which tasks the interval lies above 0, below, or around it."""
    sentences = []
    for one, other in dict.fromkeys((each.one, each.other) for each in found):
        signs: dict[str, list[str]] = {"better": [], "worse": [], "not told apart": []}
        for each in found:
            if (each.one, each.other) == (one, other):
                interval = each.difference.interval
                known = (
                    "not told apart" if interval is None or 0 in interval else "better" if interval.low > 0 else "worse"
                )
                signs[known].append(each.task)
        said = "; ".join(f"{sign} on {', '.join(where)}" for sign, where in signs.items() if where)
        sentences.append(f"`{one}` against `{other}`: {said}.")
    return " ".join(sentences)


def _ratio_text(each: Contrast) -> str:
    difference = each.difference
    if difference.value is None:
        return MISSING
    value = f"{math.exp(difference.value):.2f}"
    if difference.interval is None:
        return value
    return f"{value} [{math.exp(difference.interval.low):.2f}, {math.exp(difference.interval.high):.2f}]"


def _ratios(found: Sequence[Contrast]) -> pd.DataFrame:
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for each in found:
        row = rows.setdefault((each.task, each.column), {"task": each.task, "measure": _name(each.column)})
        row[each.one] = _ratio_text(each)
    return pd.DataFrame(list(rows.values()))


def _taus(table: pd.DataFrame) -> pd.DataFrame:
    found = table_correlations(table.assign(model=table["task"]), SHOWN, gated=True, cell="optimizer")
    rows: dict[str, dict[str, str]] = {}
    for each in found:
        row = rows.setdefault(each.column, {"measure": _name(each.column)})
        row[f"{each.model}: tau"] = tau_text(each.marginal)
        row[f"{each.model}: within"] = tau_text(each.within)
    return pd.DataFrame(list(rows.values()))


def _name(column: str) -> str:
    return BASELINES.get(column, column)


def _accuracy_figure(found: Sequence[Contrast]) -> Figure:
    rows = [
        (each.task, f"{each.one} - {each.other}", *(100 * end for end in _ends(each)))
        for each in found
        if each.difference.value is not None
    ]
    return figures.intervals(rows, label="difference of test accuracy, percentage points", zero=0.0, log=False)  # type: ignore[arg-type]


def _ratio_figure(found: Sequence[Contrast]) -> Figure:
    rows = [
        (each.task, f"{_name(each.column)}: {each.one}", *map(math.exp, _ends(each)))
        for each in found
        if each.difference.value is not None
    ]
    return figures.intervals(rows, label="ratio", zero=1.0, log=True)  # type: ignore[arg-type]


def _ends(each: Contrast) -> tuple[float, float, float]:
    """The value and the ends of its interval, the value itself where there is none."""
    value, interval = each.difference.value or 0.0, each.difference.interval
    return (value, value, value) if interval is None else (value, interval.low, interval.high)
