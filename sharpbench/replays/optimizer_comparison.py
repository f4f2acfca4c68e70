"""Optimizers compared at equal training loss: which generalizes better, and whether the measures show it."""

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
from sharpbench.replays.tables import (
    compute_correlations,
    environment_section,
    format_difference,
    format_tau,
    networks_table,
)
from sharpbench.report.format import MISSING, format_number
from sharpbench.report.page import Page, Picture, Section
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.optimizers import Optimizer
from sharpbench.training.recipe import Recipe


@dataclass(frozen=True)
class MatchedLossCohort(Cohort):
    """`seeds` networks for each model and optimizer, trained until the same training loss is reached."""

    name: ClassVar[str] = "contestants"
    title: ClassVar[str] = "optimizers at matched training loss"
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
    """The difference between the networks of two optimizers in one column, paired by seed.

    Args:
        task: model and label noise in words.
        column: the column.
        one: the optimizer whose networks are compared.
        other: the optimizer that they are compared with.
        logarithmic: whether the difference is that of the natural logarithms, which is a ratio.
        difference: the mean difference, one - other, with its interval.
    """

    task: str
    column: str
    one: str
    other: str
    logarithmic: bool
    difference: Difference


def add_tasks(table: pd.DataFrame) -> pd.DataFrame:
    """The table of networks with an additional column `task`: model and label noise in words."""
    words = table["model"] + np.where(table["label_noise"] > 0, table["label_noise"].map(" (noise {:g})".format), "")
    return table.assign(task=words)


def compute_contrasts(
    table: pd.DataFrame, columns: Sequence[str], pairs: Sequence[tuple[str, str]], *, logarithmic: bool
) -> list[Contrast]:
    """The mean difference for each task, column and pair of optimizers, over the seeds at which both networks fitted.

    Args:
        table: networks with task, optimizer, seed, fitted and the columns.
        columns: the columns to compare.
        pairs: the pairs of optimizers.
        logarithmic: whether to compare natural logarithms; pairs with a value that is not above 0 are left out.
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


MEASURES = "sam,asam,adaptive[case=average-closed],trace,minimum,normalized"
COMPARED_COLUMNS = (
    "sam",
    "asam",
    "adaptive[case=average-closed]",
    "trace",
    "minimum",
    "normalized",
    "parameter_norm",
    "train_loss",
)
BASELINE_NAMES = {"parameter_norm": "(parameter norm)", "train_loss": "(training loss)"}
SEEDS = 8
Tasks = tuple[tuple[float, tuple[Model, ...]], ...]
"""Ratios of label noise, each with the models that are trained with it."""
PERCENTAGE_POINT = 0.01
"""One percentage point of accuracy."""


@dataclass(frozen=True)
class GeneralizationReplay(Replay):
    """A replay that compares the generalization of optimizers at equal training loss.

    Args:
        optimizers: the optimizers; measures are compared with those of the first.
        pairs: the pairs whose test accuracy is compared.
        tasks: the models that are trained, by label noise.
        size: the tasks in words.
        remark: hyperparameters, and what the paper found.
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
                (MatchedLossCohort(optimizers=self.optimizers, seeds=SEEDS, label_noise=noise), models)
                for noise, models in self.tasks
            ),
        )

    def page(self, scale: str, records: Sequence[Record], findings: Mapping[str, pd.DataFrame]) -> Page:
        """See Replay."""
        table = add_tasks(networks_table(records))
        pairs = [(format_spec(one), format_spec(other)) for one, other in self.pairs]
        first = format_spec(self.optimizers[0])
        others = [(format_spec(each), first) for each in self.optimizers[1:]]
        accuracy = compute_contrasts(table, ["test_accuracy"], pairs, logarithmic=False)
        sharpness = compute_contrasts(table, COMPARED_COLUMNS, others, logarithmic=True)
        return Page(
            self.title,
            (
                Section(
                    "Do they generalize better?",
                    (
                        f"Size: {self.experiment(scale).title}; one rate for all, no tuning. {self.remark}",
                        _networks_table(table),
                        "Differences of test accuracy in percentage points, paired by seed, with 95 % intervals "
                        "(Student's t). Networks with the same seed share only their images, no random numbers. The "
                        "intervals are not corrected for their number; they hold for other training runs, not for "
                        "other test images.",
                        _accuracy_table(accuracy),
                        _write_verdicts(accuracy),
                        Picture("accuracy", "Differences of test accuracy", lambda: _draw_accuracy(accuracy)),
                    ),
                ),
                Section(
                    "Do the measures see it?",
                    (
                        f"Each measure over its value for {first}: geometric means over seeds, with 95 % intervals "
                        "from the paired logarithms. Values below 1 mean flatter. Training stops at the first epoch "
                        "that reaches the loss, so that the training loss also differs a little; see the table.",
                        _ratio_table(sharpness),
                        Picture("sharpness", f"Measures relative to {first}", lambda: _draw_ratios(sharpness)),
                        f"Kendall's tau of the measures with the gap, over the fitted networks of a task, and within "
                        f"those of one optimizer (at most {SEEDS} networks each).",
                        _tau_table(table),
                    ),
                ),
                environment_section(records, self.source),
            ),
        )


def _networks_table(table: pd.DataFrame) -> pd.DataFrame:
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


def _accuracy_table(found: Sequence[Contrast]) -> pd.DataFrame:
    rows: dict[str, dict[str, str]] = {}
    for each in found:
        pair = f"{each.one} - {each.other}"
        row = rows.setdefault(pair, {"difference": pair})
        row[each.task] = format_difference(each.difference, unit=PERCENTAGE_POINT)
    return pd.DataFrame(list(rows.values()))


def _write_verdicts(found: Sequence[Contrast]) -> str:
    """One sentence per pair: the tasks in which the interval is above 0, below 0, or contains 0."""
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
        verdict = "; ".join(f"{sign} on {', '.join(where)}" for sign, where in signs.items() if where)
        sentences.append(f"`{one}` against `{other}`: {verdict}.")
    return " ".join(sentences)


def _format_ratio(each: Contrast) -> str:
    difference = each.difference
    if difference.value is None:
        return MISSING
    value = f"{math.exp(difference.value):.2f}"
    if difference.interval is None:
        return value
    return f"{value} [{math.exp(difference.interval.low):.2f}, {math.exp(difference.interval.high):.2f}]"


def _ratio_table(found: Sequence[Contrast]) -> pd.DataFrame:
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for each in found:
        row = rows.setdefault((each.task, each.column), {"task": each.task, "measure": _column_name(each.column)})
        row[each.one] = _format_ratio(each)
    return pd.DataFrame(list(rows.values()))


def _tau_table(table: pd.DataFrame) -> pd.DataFrame:
    found = compute_correlations(table.assign(model=table["task"]), COMPARED_COLUMNS, gated=True, cell="optimizer")
    rows: dict[str, dict[str, str]] = {}
    for each in found:
        row = rows.setdefault(each.column, {"measure": _column_name(each.column)})
        row[f"{each.model}: tau"] = format_tau(each.marginal)
        row[f"{each.model}: within"] = format_tau(each.within)
    return pd.DataFrame(list(rows.values()))


def _column_name(column: str) -> str:
    return BASELINE_NAMES.get(column, column)


def _draw_accuracy(found: Sequence[Contrast]) -> Figure:
    rows = [
        figures.IntervalRow(each.task, f"{each.one} - {each.other}", *(100 * end for end in _value_and_ends(each)))
        for each in found
        if each.difference.value is not None
    ]
    return figures.draw_intervals(rows, label="difference of test accuracy, percentage points", zero=0.0, log=False)


def _draw_ratios(found: Sequence[Contrast]) -> Figure:
    rows = [
        figures.IntervalRow(
            each.task, f"{_column_name(each.column)}: {each.one}", *map(math.exp, _value_and_ends(each))
        )
        for each in found
        if each.difference.value is not None
    ]
    return figures.draw_intervals(rows, label="ratio", zero=1.0, log=True)


def _value_and_ends(each: Contrast) -> tuple[float, float, float]:
    """The value and the ends of its interval; without an interval, three times the value."""
    value, interval = each.difference.value or 0.0, each.difference.interval
    return (value, value, value) if interval is None else (value, interval.low, interval.high)
