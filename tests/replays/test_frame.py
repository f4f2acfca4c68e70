"""Records as a table of networks, and what the paper's solver makes of their traces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sharpbench.core.record import Record
from sharpbench.replays.minimum_sharpness_2021.solver import (
    SOLVER_COLUMN,
    add_solver_column,
    noise_table,
    run_paper_solver,
)
from sharpbench.replays.tables import networks_table
from sharpbench.symmetry import minimise

MakeMany = Callable[..., list[Record]]
Make = Callable[..., Record]


def test_a_row_a_network_with_its_recipe_its_truth_and_a_column_a_measure(records: MakeMany) -> None:
    found = records(labels=("trace", "minimum"))
    table = networks_table(found)
    assert len(table) == len(found) / 2 == 30
    for position in (0, 17):
        one, other, row = found[2 * position], found[2 * position + 1], table.iloc[position]
        assert (row["trace"], row["minimum"]) == (one.value, other.value)
        assert (row["model"], row["seed"], row["gap"]) == (one.recipe["model"], one.recipe["seed"], one.truth["gap"])
        assert row["tr layer1.bias"] == one.parts["layer1.bias"]


def test_what_has_no_value_or_no_truth_is_there_and_does_not_count(record: Make) -> None:
    recipe = {"model": "mlp"}
    table = networks_table(
        [
            record("trace", None, recipe=recipe, truth={"fitted": True, "gap": 0.1}),
            record("trace", None, recipe={**recipe, "seed": 1}, truth={}),
            record("trace", 2.0, recipe={**recipe, "seed": 2}, truth={"fitted": False, "gap": 0.3}),
        ]
    )
    assert table["trace"].isna().tolist() == [True, True, False]
    assert table["fitted"].tolist() == [True, False, False]
    assert table["fitted"].dtype == bool


def test_the_solver_is_given_the_traces_of_the_blocks_in_the_order_of_layers(records: MakeMany) -> None:
    found = records(labels=("trace", "minimum"), seeds=2)
    table = add_solver_column(networks_table(found))
    weights, biases = (
        np.array([[record.parts[f"layer{layer}.{kind}"] for layer in range(3)] for record in found[::2]])
        for kind in ("weight", "bias")
    )
    assert table[SOLVER_COLUMN].to_numpy() == pytest.approx(run_paper_solver(weights, biases), rel=1e-12)
    for index, (record, left) in enumerate(zip(found[::2], table[SOLVER_COLUMN], strict=True)):
        basis = np.array([[1, 0], [-1, 1], [0, -1], [1, 0], [0, 1], [0, 0]], dtype=float)
        least = minimise(np.concatenate((weights[index], biases[index])), basis).value
        assert least <= left <= (record.value or 0)


def test_networks_without_biases_or_without_traces(record: Make) -> None:
    parts = {"layer0.weight": 100.0, "layer1.weight": 1.0}
    table = networks_table(
        [
            record("trace", 101.0, recipe={"model": "bare"}, truth={"fitted": True, "gap": 0.1}, parts=parts),
            record("trace", None, recipe={"model": "bare", "seed": 1}, truth={"fitted": True, "gap": 0.1}),
        ]
    )
    left = add_solver_column(table)[SOLVER_COLUMN]
    assert left[0] == pytest.approx(run_paper_solver(np.array([[100.0, 1.0]]), np.zeros((1, 2)))[0])
    assert np.isnan(left[1])


def test_medians_and_ratios_by_noise(records: MakeMany) -> None:
    table = add_solver_column(networks_table(records(labels=("trace", "minimum"))))
    shown = noise_table(table)
    assert shown[["network", "label noise", "n"]].to_numpy().tolist()[:4] == [
        ["mlp", "0", "5"],
        ["mlp", "0.2", "5"],
        ["mlp", "0.4", "5"],
        ["lenet", "0", "5"],
    ]
    cell = table[(table["model"] == "mlp") & (table["label_noise"] == 0.2)]
    ratios = cell[SOLVER_COLUMN] / cell["minimum"]
    assert shown["solver / converged"][1] == f"{ratios.median():.3f} ({ratios.min():.3f} to {ratios.max():.3f})"
