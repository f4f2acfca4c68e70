"""The paper's archive through the protocol, from records to scores."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sharpbench.analysis.scores import Score, score_records
from sharpbench.core.record import Record
from sharpbench.replays.minimum_sharpness_2021.archive import read_archive

Make = Callable[..., Record]


def scores(record: Make, *, gate: bool) -> dict[tuple[str, str], Score]:
    found = []
    for row in read_archive().to_dict("records"):
        truth = {"gap": row["gap"], "fitted": not gate or row["fitted"]}
        for measure in ("minimum_sharpness", "normalized_sharpness"):
            found.append(
                record(
                    measure,
                    ratio=float(row["label_noise"]),
                    seed=int(row["trial"]),
                    value=float(row[measure]),
                    model=row["model"],
                    truth=truth,
                    data={"sha256": "paper", "examples": 60_000, "test_examples": 10_000},
                )
            )
    return {(row.model, row.label): row for row in score_records(found)}


def test_without_the_gate_the_published_correlations_come_out(record: Make) -> None:
    found = scores(record, gate=False)
    expected = {
        ("mlp", "minimum_sharpness"): (0.864, 0.479),
        ("lenet", "minimum_sharpness"): (0.678, 0.030),
        ("mlp", "normalized_sharpness"): (0.942, 0.390),
        ("lenet", "normalized_sharpness"): (0.723, 0.054),
    }
    for place, (marginal, within) in expected.items():
        row = found[place]
        assert (row.networks, row.excluded) == (110, 0)
        assert row.marginal.value == pytest.approx(marginal, abs=5e-4)
        assert row.within.value == pytest.approx(within, abs=5e-4)
        assert all(each is not None for each in (row.marginal.interval, row.within.interval))
        judged = row.correlations
        assert judged.granulated.overall.interval is not None
        assert judged.signs.environments == 55 - judged.signs.left_out
        # given label noise, what the measures still know on LeNet is nothing that chance would not give
        assert judged.information.given == ("label_noise",)
        assert judged.information.by_chance == (row.model == "lenet")


def test_the_gate_shows_the_three_networks_at_chance_as_excluded(record: Make) -> None:
    found = scores(record, gate=True)
    row = found["mlp", "minimum_sharpness"]
    assert (row.networks, row.excluded, found["lenet", "minimum_sharpness"].excluded) == (107, 3, 0)
    assert row.marginal.value == pytest.approx(0.857, abs=5e-4)
    assert found["mlp", "normalized_sharpness"].marginal.value == pytest.approx(0.941, abs=5e-4)
