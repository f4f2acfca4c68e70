"""timm's published results: how size, resolution and accuracy go with the drop of accuracy under each shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from sharpbench.analysis.statistics import Tau, marginal_tau
from sharpbench.core.record import Record
from sharpbench.replays.replay import Experiment, Replay
from sharpbench.replays.tables import environment_section, format_tau
from sharpbench.replays.timm_results.archive import SHIFTS, read_timm_results
from sharpbench.report.page import Page, Section

TITLES = {
    "v2": "ImageNet-V2",
    "real": "ImageNet-ReaL",
    "sketch": "ImageNet-Sketch",
    "a": "ImageNet-A",
    "r": "ImageNet-R",
}
COMMON_SIZE = 224
"""The resolution of half of the rows, in pixels."""


@dataclass(frozen=True)
class TimmResults(Replay):
    """The drop of accuracy of timm's models under five shifts. Its only scale uses the published data."""

    name: ClassVar[str] = "timm-results"
    title: ClassVar[str] = "timm's published results under shift"
    source: ClassVar[str] = (
        "Wightman, PyTorch Image Models (timm), results in github.com/huggingface/pytorch-image-models, Apache-2.0"
    )
    scales: ClassVar[tuple[str, ...]] = ("archive",)

    def experiment(self, scale: str) -> Experiment | None:
        """See Replay: there is nothing to train."""
        return None

    def page(self, scale: str, records: Sequence[Record], findings: Mapping[str, pd.DataFrame]) -> Page:
        """See Replay."""
        table = read_timm_results()
        common = table[table["img_size"] == COMMON_SIZE]
        sections = (
            Section(
                "All models",
                (
                    "Kendall's tau with the drop of top-1 accuracy, in percentage points, on "
                    f"{len(table):,} rows, models at one or several resolutions, of {table['family'].nunique()} "
                    "families; [95 % intervals] for families drawn again, because models of one family are alike.",
                    shift_table(table, ("param_count", "img_size", "top-1")),
                    "The drop is the accuracy before the shift less that on the test set. Before the shift are "
                    "ImageNet's validation images; for ImageNet-A and ImageNet-R those of their 200 classes. A "
                    "negative tau: larger or more accurate models lose less. ImageNet-ReaL has the same images with "
                    "better labels: its drop is negative, and accurate models gain least.",
                ),
            ),
            Section(
                f"At {COMMON_SIZE} pixels",
                (
                    f"The {len(common):,} rows at the most frequent resolution.",
                    shift_table(common, ("param_count", "top-1")),
                    "Accuracy before the shift orders the drops better than size does. A measure that is to predict "
                    "robustness has to be compared with it.",
                ),
            ),
        )
        return Page(self.title, (*sections, environment_section(records, self.source)))


def shift_table(table: pd.DataFrame, predictors: Sequence[str]) -> pd.DataFrame:
    """One row per shift: models, the median drop, and the tau of each predictor with the drop, as text."""
    headings = {"param_count": "tau of parameters", "img_size": "tau of resolution", "top-1": "tau of top-1"}
    return pd.DataFrame(
        {
            "test set": TITLES[shift],
            "n": f"{len(known):,}",
            "median drop": f"{known[f'drop_{shift}'].median():.1f}",
            **{headings[name]: format_tau(drop_tau(known, shift, name)) for name in predictors},
        }
        for shift, known in ((shift, table.dropna(subset=[f"drop_{shift}"])) for shift in SHIFTS)
    )


def drop_tau(table: pd.DataFrame, shift: str, predictor: str) -> Tau:
    """Tau of a column with the drop under a shift; 'top-1' is the accuracy before it. Families are drawn together."""
    column = SHIFTS[shift][0] if predictor == "top-1" else predictor
    families = np.unique(table["family"], return_inverse=True)[1]
    return marginal_tau(table[column], table[f"drop_{shift}"], np.zeros_like(families), families)
