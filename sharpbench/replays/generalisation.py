"""Generalisation: the page of a comparison of optimisers, the same for every paper that proposes one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
from matplotlib.figure import Figure

from sharpbench.core.record import Record
from sharpbench.core.spec import label
from sharpbench.datasets import Digits
from sharpbench.models.model import Model
from sharpbench.replays import figures
from sharpbench.replays.comparison import Contestants, Contrast, contrasts, tasks
from sharpbench.replays.correlation import correlations
from sharpbench.replays.frame import networks
from sharpbench.replays.replay import Experiment, Replay
from sharpbench.replays.surroundings import surroundings
from sharpbench.replays.tables import difference_text, tau_text
from sharpbench.report.format import MISSING, number
from sharpbench.report.page import Page, Picture, Section
from sharpbench.training.optimizers import Optimizer

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
class Generalisation(Replay):
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
        table = tasks(networks(records))
        pairs = [(label(one), label(other)) for one, other in self.pairs]
        first = label(self.optimizers[0])
        others = [(label(each), first) for each in self.optimizers[1:]]
        accuracy = contrasts(table, ["test_accuracy"], pairs, logarithmic=False)
        sharpness = contrasts(table, SHOWN, others, logarithmic=True)
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
                surroundings(records, self.source),
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
                "training loss": number(fitted["train_loss"].mean()) if len(fitted) else MISSING,
                "epochs": number(fitted["epochs"].mean()) if len(fitted) else MISSING,
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
    found = correlations(table.assign(model=table["task"]), SHOWN, gated=True, cell="optimizer")
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
