"""The gate: which networks are left out, why, and that every table says so."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from sharpbench.analysis.population import MeasuredNetwork, group_populations
from sharpbench.analysis.scores import score_records
from sharpbench.core.record import Record
from sharpbench.report import console, markdown

MakeMany = Callable[..., list[Record]]


@pytest.mark.parametrize(
    ("truth", "reason"),
    [
        ({"fitted": True, "gap": 0.1, "epochs": 5, "train_loss": 0.01}, None),
        ({"fitted": True, "gap": 0.1, "epochs": 300, "train_loss": 0.01}, None),
        ({"fitted": False, "gap": 0.1, "epochs": 300, "train_loss": 2.3}, "budget ended"),
        ({"fitted": False, "gap": 0.1, "epochs": 12, "train_loss": None}, "diverged"),
        ({"fitted": False, "gap": 0.1, "epochs": 300, "train_loss": None}, "diverged"),
        ({"fitted": False, "gap": 0.1, "epochs": 12, "train_loss": 8.0, "diverged": True}, "diverged"),
        ({"fitted": True, "gap": None, "epochs": 12, "train_loss": 0.01}, "gap unknown"),
        ({}, "could not be trained"),
    ],
)
def test_every_exclusion_has_its_reason(truth: dict[str, Any], reason: str | None) -> None:
    network = MeasuredNetwork("k", {"max_epochs": 300}, truth)
    assert network.exclusion == reason
    assert network.counts == (reason is None)


def population(make: MakeMany) -> list[Record]:
    """25 networks: 3 whose budget ended, 1 that diverged."""
    found = []
    for row in make():
        truth = {**row.truth, "epochs": 50}
        if row.recipe["label_noise"] == 1.0 and row.recipe["seed"] in (0, 1, 2):
            truth |= {"fitted": False, "epochs": 300}
        if row.recipe["label_noise"] == 0.5 and row.recipe["seed"] == 4:
            truth |= {"fitted": False, "train_loss": None}
        found.append(replace(row, recipe={**row.recipe, "max_epochs": 300}, truth=truth))
    return found


def test_the_counts_stand_in_scores_terminal_and_page(records: MakeMany) -> None:
    found = population(records)
    scores = score_records(found)
    assert {row.excluded for row in scores} == {4}
    assert all(row.exclusions == {"budget ended": 3, "diverged": 1} for row in scores)
    page = markdown.markdown_leaderboard(scores, found, version="1")
    assert ("25 networks; 4 excluded by the gate (not fitted to the training set: 3 budget ended, 1 diverged).") in page
    terminal = Console(record=True, width=160, file=io.StringIO())
    console.show_boards(scores, found, terminal, full=True)
    assert "25 networks, 4 excluded as not fitted (3 budget ended, 1 diverged); ranked by" in terminal.export_text()


def test_a_network_without_the_outcome_is_not_called_unfitted(records: MakeMany) -> None:
    """Five networks do not state the outcome, as those of an earlier run; one of them did not fit."""
    found = [
        row if row.recipe["seed"] == 4 else replace(row, outcomes={"forgetting": row.truth["gap"]})  # type: ignore[dict-item]
        for row in population(records)
    ]
    scores = score_records(found, outcome="forgetting")
    assert {(row.excluded, row.unknown) for row in scores} == {(8, 4)}
    page = markdown.markdown_leaderboard(scores, found, version="1")
    assert "(not fitted to the training set: 3 budget ended, 1 diverged), 4 because their records do not state" in page
    terminal = Console(record=True, width=200, file=io.StringIO())
    console.show_boards(scores, found, terminal)
    assert "4 excluded as not fitted (3 budget ended, 1 diverged), 4 as their records do not state" in (
        terminal.export_text()
    )


def test_few_drawn_configurations_are_not_called_small_cells(records: MakeMany) -> None:
    found = [replace(row, data={**row.data, "design": "random"}) for row in records()]
    scores = score_records(found)
    terminal = Console(record=True, width=200, file=io.StringIO())
    console.show_boards(scores, found, terminal)
    text = terminal.export_text()
    assert "ranked by tau over all networks (too few configurations have several networks for within)" in text


def test_networks_of_one_population_are_judged_together_whatever_their_widths(records: MakeMany) -> None:
    found = [
        replace(
            row,
            recipe={**row.recipe, "model": f"mlp[width={10 + row.recipe['seed']}]"},  # type: ignore[operator]
            data={**row.data, "population": "mlp", "design": "random"},
        )
        for row in records()
    ]
    (whole,) = group_populations(found)
    assert (whole.model, len(whole.networks)) == ("mlp", 25)
    apart = [replace(row, data={"examples": 512}) for row in found]
    assert len(group_populations(apart)) == 5


def test_random_configurations_are_said_and_judged_as_such(records: MakeMany) -> None:
    """20 cells of 2 networks: enough cells for an interval of a random design, too few networks for a designed one."""
    found = []
    for row in records(seeds=8):
        seed = int(row.recipe["seed"] or 0)
        found.append(replace(row, recipe={**row.recipe, "batch_size": seed // 2, "seed": seed % 2}))
    random = [replace(row, data={**row.data, "design": "random"}) for row in found]
    for kept, ranked_by, has in ((found, "marginal", False), (random, "within", True)):
        scores = score_records(kept)
        good = next(row for row in scores if row.label == "good")
        assert (good.ranked_by, good.within.interval is not None) == (ranked_by, has)
        page = markdown.markdown_leaderboard(scores, kept, version="1")
        assert ("drawn at random: intervals are for" in page) == has
        terminal = Console(record=True, width=160, file=io.StringIO())
        console.show_boards(scores, kept, terminal, full=True)
        assert ("drawn at random: intervals are for" in terminal.export_text()) == has
