"""Correlations of the archive, as published and with the gate, and that nothing but the right networks enters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from sharpbench.replays.minimum_sharpness_2021.archive import read_archive
from sharpbench.replays.tables import GapCorrelation, compute_correlations

COLUMNS = ("minimum_sharpness", "normalized_sharpness", "label_noise", "train_loss")


def found(*, gated: bool) -> dict[tuple[str, str], GapCorrelation]:
    return {(each.model, each.column): each for each in compute_correlations(read_archive(), COLUMNS, gated=gated)}


@pytest.mark.parametrize(
    ("gated", "model", "column", "marginal", "within"),
    [
        (False, "mlp", "minimum_sharpness", 0.864, 0.479),
        (False, "lenet", "minimum_sharpness", 0.678, 0.030),
        (False, "mlp", "normalized_sharpness", 0.942, 0.390),
        (False, "lenet", "normalized_sharpness", 0.723, 0.054),
        (True, "mlp", "minimum_sharpness", 0.857, 0.472),
        (True, "mlp", "normalized_sharpness", 0.941, 0.398),
        (True, "lenet", "minimum_sharpness", 0.678, 0.030),
    ],
)
def test_the_archive_gives_the_known_figures(
    gated: bool, model: str, column: str, marginal: float, within: float
) -> None:
    each = found(gated=gated)[model, column]
    assert each.marginal.value == pytest.approx(marginal, abs=5e-4)
    assert each.within.value == pytest.approx(within, abs=5e-4)
    assert each.marginal.interval is not None
    assert each.marginal.value in each.marginal.interval


def test_baselines_beat_the_measures_over_all_and_have_nothing_within() -> None:
    mlp, lenet = (found(gated=False)[model, "label_noise"] for model in ("mlp", "lenet"))
    assert (mlp.marginal.value, lenet.marginal.value) == (
        pytest.approx(0.955, abs=5e-4),
        pytest.approx(0.958, abs=5e-4),
    )
    assert mlp.within.value is None
    losses = found(gated=True)["mlp", "train_loss"].marginal.value
    assert losses == pytest.approx(0.89, abs=5e-3)


def test_against_scipy_row_by_row() -> None:
    table = read_archive()
    rows = table[(table["model"] == "lenet")]
    each = found(gated=True)["lenet", "train_loss"]
    assert each.marginal.value == pytest.approx(kendalltau(rows["train_loss"], rows["gap"]).statistic)
    cells = [kendalltau(cell["train_loss"], cell["gap"]).statistic for _, cell in rows.groupby("label_noise")]
    assert each.within.value == pytest.approx(np.mean(cells))


def test_the_gate_excludes_and_missing_values_do_not_enter() -> None:
    assert found(gated=False)["mlp", "train_loss"].marginal.networks == 110
    assert found(gated=True)["mlp", "train_loss"].marginal.networks == 107
    table = read_archive().assign(thin=lambda frame: frame["train_loss"].where(frame["trial"] < 5))
    (mlp, _) = compute_correlations(table, ["thin"], gated=True)
    assert (mlp.model, mlp.marginal.networks) == ("mlp", int(table.query("model == 'mlp' and fitted")["thin"].count()))
    assert compute_correlations(pd.DataFrame(columns=table.columns).astype(table.dtypes), ["thin"], gated=True) == []
