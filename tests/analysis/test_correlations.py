"""What enters a judgement: hyperparameters, what is drawn again, test examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sharpbench.analysis.correlations import varied_hyperparameters
from sharpbench.analysis.population import group_populations
from sharpbench.analysis.scores import Score, score_records
from sharpbench.analysis.statistics import granulated_tau
from sharpbench.core.record import Record

Make = Callable[..., Record]
MakeMany = Callable[..., list[Record]]


def on_grid(record: Make, **changes: object) -> list[Record]:
    """Learning rate x batch size, 5 networks each; the measure follows the gap along one, and not along the other."""
    rng = np.random.default_rng(0)
    return [
        record(
            seed=seed,
            value=float(rate - 2 * size + 0.3 * rng.standard_normal()),
            truth={"gap": float(0.1 * (rate + 2 * size) + 0.01 * rng.standard_normal())},
            recipe={"learning_rate": 0.01 * 2**rate, "batch_size": 16 * 2**size, "label_noise": 0},
            **changes,
        )
        for rate in range(3)
        for size in range(2)
        for seed in range(5)
    ]


def row(records: list[Record]) -> Score:
    (found,) = (each for each in score_records(records) if each.label == "good")
    return found


def test_each_hyperparameter_has_its_psi(record: Make) -> None:
    judged = row(on_grid(record)).correlations
    assert [name for name, tau in judged.granulated.axes.items()] == ["learning_rate", "batch_size"]
    assert judged.granulated.axes["learning_rate"].value == pytest.approx(1, abs=0.05)
    assert judged.granulated.axes["batch_size"].value == -1
    assert judged.granulated.overall.value == pytest.approx(0, abs=0.05)
    assert (judged.signs.worst, judged.signs.at, judged.signs.environments) == (1, "batch_size", 9)
    assert judged.drawn == "networks"
    assert judged.information.value is not None


def test_fields_of_the_model_are_hyperparameters(record: Make) -> None:
    found = [record(model="mlp"), record(model="mlp[width=64,depth=3]", seed=1), record(model="mlp[width=32]", seed=2)]
    networks = [network for each in group_populations(found) for network in each.networks]
    columns = varied_hyperparameters(networks)
    assert {name: columns[name] for name in ("model", "width", "depth")} == {
        "model": ["mlp"] * 3,
        "width": [None, "32", "64"],
        "depth": [None, None, "3"],
    }
    assert "seed" not in columns
    assert "dataset" not in columns
    odd = [record(model="[,=]][x=[y=1,z=2],w=3"), record(model="x" * 10_000 + "[", seed=1)]
    assert (
        len(varied_hyperparameters([network for each in group_populations(odd) for network in each.networks])["model"])
        == 2
    )


def test_a_drawn_cohort_has_intervals_for_hyperparameters_drawn_again(records: MakeMany, record: Make) -> None:
    rng = np.random.default_rng(1)
    found = []
    for number in range(20):
        effect = rng.random()
        for seed in range(5):
            gap = float(effect + 0.1 * rng.standard_normal())
            found.append(
                record(ratio=number, seed=seed, value=gap + float(0.1 * rng.standard_normal()), truth={"gap": gap})
            )
    fixed = row(found)
    free = row([replace(each, data={**each.data, "design": "random"}) for each in found])
    assert (fixed.correlations.drawn, free.correlations.drawn) == ("networks", "configurations")
    assert fixed.marginal.value == free.marginal.value
    assert fixed.marginal.interval is not None
    assert free.marginal.interval is not None
    width = [each.high - each.low for each in (fixed.marginal.interval, free.marginal.interval)]
    assert width[1] > 1.5 * width[0]
    assert free.rank == 1
    few = [replace(each, data={**each.data, "design": "random"}) for each in records()]
    assert row(few).marginal.reason == "5 units drawn, an interval needs 20"


def test_sign_errors_need_the_number_of_test_examples(record: Make) -> None:
    found = on_grid(record)
    silent = row([replace(each, data={"sha256": "ab" * 32, "examples": 512}) for each in found]).correlations.signs
    assert silent.worst is None
    assert silent.reason == "the records do not say, or disagree, on how many test examples the gaps were found"
    coarse = row([replace(each, data={**each.data, "test_examples": 50}) for each in found]).correlations.signs
    fine = row(found).correlations.signs
    assert coarse.environments < fine.environments == 9


def test_a_partial_row_is_judged_by_its_own_networks(record: Make) -> None:
    found = on_grid(record)
    part = [replace(each, status="skipped", value=None) if number < 5 else each for number, each in enumerate(found)]
    judged = row(part).correlations.granulated
    values = found[5:]
    expected = granulated_tau(
        [each.value or 0 for each in values],
        [float(each.truth["gap"] or 0) for each in values],
        {name: [each.recipe[name] for each in values] for name in ("learning_rate", "batch_size")},
    )
    assert judged.overall.value == expected.overall.value
    assert judged.overall.networks == 25


def test_intervals_hold_the_error_over_examples_where_these_are_a_draw(record: Make) -> None:
    exact = on_grid(record)
    stated = [replace(each, stderr_examples=1.5) for each in exact]
    parts = [replace(each, data={**each.data, "examples": 64, "available": 256}) for each in stated]
    whole = [replace(each, data={**each.data, "examples": 256, "available": 256}) for each in stated]
    before, after = row(whole).correlations, row(parts).correlations
    assert before == row(exact).correlations  # of all training examples the value is exact for the training loss
    for name in ("marginal", "within"):
        narrow, wide = getattr(before, name), getattr(after, name)
        assert wide.value == narrow.value
        assert wide.interval.low < narrow.interval.low - 0.01
        assert wide.interval.high > narrow.interval.high
    narrow, wide = before.granulated.overall.interval, after.granulated.overall.interval
    assert narrow is not None
    assert wide is not None
    assert wide.low < narrow.low
    assert after == row(parts).correlations  # draws have a fixed seed
    assert after.signs == before.signs
