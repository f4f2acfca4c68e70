"""The estimate of the time left: from the means of cells of the same kind, with slots and running cells counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sharpbench import plan
from sharpbench.datasets.digits import Digits
from sharpbench.runner.cell import Cell
from sharpbench.runner.cell_record import cell_record
from sharpbench.runner.engines.pool import CellStarted
from sharpbench.runner.eta import EtaEstimator
from sharpbench.runner.networks import UntrainedNetworks
from sharpbench.runner.run import RunOptions, iterate_events
from sharpbench.training.population import TrainingEpoch
from sharpbench.training.recipe import Recipe
from sharpbench.training.state import Epoch

CELLS = plan(
    "parameter-norm,gradient-norm", "small-mlp", cohort="label-noise[ratios=2,seeds=3,train_size=8,max_epochs=1]",
    device="cpu", timing=0, oracle=0, invariance=0,
)  # fmt: skip
RECIPES = list(dict.fromkeys(cell.trained_recipe for cell in CELLS))
DATA = Digits().load(None)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def end(eta: EtaEstimator, cell: Cell) -> None:
    eta.update(cell_record(cell, DATA, None))


def untrained(recipes: Sequence[Recipe], population: str = "small-mlp") -> UntrainedNetworks:
    return UntrainedNetworks(dict.fromkeys(recipes, population))


def epoch(recipe: Recipe) -> TrainingEpoch:
    return TrainingEpoch(recipe, Epoch(1, 1, 0.5, True, False))


def measure(eta: EtaEstimator, clock: Clock, cell: Cell, *, seconds: float = 1.0) -> None:
    eta.update(CellStarted(cell))
    clock.now += seconds
    end(eta, cell)


def test_the_rest_takes_as_long_as_its_kind() -> None:
    clock = Clock()
    eta = EtaEstimator(CELLS, slots=1, clock=clock)
    assert (eta.remaining, eta.seconds()) == (12, None)
    norm, slope = CELLS[:2]
    eta.update(CellStarted(norm))
    clock.now = 3.0
    end(eta, norm)
    assert (eta.remaining, eta.seconds()) == (11, 33.0)  # the other measure as this one
    eta.update(CellStarted(slope))
    clock.now = 13.0
    end(eta, slope)
    assert (eta.remaining, eta.seconds()) == (10, 5 * 3.0 + 5 * 10.0)
    eta.update(CellStarted(CELLS[2]))
    clock.now = 14.0
    assert eta.seconds() == 64.0  # one second of it is over
    clock.now = 99.0
    assert eta.seconds() == 62.0  # no more than was expected
    end(eta, CELLS[4])  # its network is lost
    assert (eta.remaining, eta.seconds()) == (9, 59.0)
    end(eta, CELLS[0])  # a second time
    assert eta.remaining == 9


def test_slots_share_the_rest() -> None:
    clock = Clock()
    eta = EtaEstimator(CELLS, slots=4, clock=clock)
    eta.update(CellStarted(CELLS[0]))
    clock.now = 2.0
    end(eta, CELLS[0])
    assert eta.seconds() == pytest.approx(22.0 / 4)
    for cell in CELLS[1:]:
        end(eta, cell)
    assert (eta.remaining, eta.seconds()) == (0, 0.0)


def test_networks_that_are_left_train_as_long_as_those_before_did() -> None:
    """Four of six are untrained; two train for 20 s together, and their cells take 1 s each."""
    clock = Clock()
    eta = EtaEstimator(CELLS, slots=1, clock=clock)
    eta.update(untrained(RECIPES[2:]))
    for cell in CELLS[:4]:
        measure(eta, clock, cell)
    assert (eta.seconds(), eta.training_included) == (8.0, False)
    for recipe in RECIPES[2:4]:
        clock.now += 10.0
        eta.update(epoch(recipe))
        assert (eta.seconds(), eta.training_included) == (8.0, False)
    eta.update(CellStarted(CELLS[4]))
    assert (eta.seconds(), eta.training_included) == (8.0 + 2 * 10.0, True)
    clock.now += 1.0
    end(eta, CELLS[4])
    assert eta.seconds() == 7.0 + 20.0
    clock.now += 4.0
    eta.update(epoch(RECIPES[4]))
    assert eta.seconds() == 7.0 + 16.0  # four seconds of the training are over
    end(eta, CELLS[8])  # the first cell of the network, which is lost
    assert eta.seconds() == 6.0 + 10.0
    clock.now += 6.0
    eta.update(epoch(RECIPES[5]))
    eta.update(CellStarted(CELLS[10]))
    assert eta.seconds() == pytest.approx(6.0)
    assert eta.training_included


def test_a_training_that_takes_longer_shortens_no_other() -> None:
    clock = Clock()
    eta = EtaEstimator(CELLS, slots=1, clock=clock)
    eta.update(untrained(RECIPES))
    clock.now = 10.0
    eta.update(epoch(RECIPES[0]))
    for cell in CELLS[:2]:
        measure(eta, clock, cell)
    eta.update(epoch(RECIPES[1]))
    clock.now += 500.0
    assert eta.seconds() == 10.0 + 4 * 10.0


def test_networks_without_an_epoch_in_this_run_are_left_no_longer_when_they_are_measured() -> None:
    """Another run has trained them, or they had ended in the checkpoint that their group went on from."""
    clock = Clock()
    eta = EtaEstimator(CELLS, slots=1, clock=clock)
    eta.update(untrained(RECIPES))
    clock.now = 10.0
    eta.update(epoch(RECIPES[0]))
    for cell in CELLS[:2]:
        measure(eta, clock, cell)
    eta.update(CellStarted(CELLS[2]))
    assert eta.seconds() == 10.0 + 4 * 10.0
    for cell in CELLS[2:]:
        measure(eta, clock, cell)
    assert (eta.seconds(), eta.training_included) == (0.0, True)


def test_networks_of_another_shard_that_train_along_cost_time_and_are_none_of_those_left() -> None:
    """Of each group of three networks one is of this run; a group trains for 30 s."""
    mine = [cell for cell in CELLS if cell.recipe in (RECIPES[0], RECIPES[3])]
    clock = Clock()
    eta = EtaEstimator(mine, slots=1, clock=clock)
    eta.update(untrained([RECIPES[0], RECIPES[3]]))
    clock.now = 30.0
    for recipe in RECIPES[:3]:
        eta.update(epoch(recipe))
    for cell in mine[:2]:
        measure(eta, clock, cell)
    assert eta.seconds() == 2.0 + 30.0


def test_networks_train_as_long_as_those_of_their_model() -> None:
    """The training of a large network is no estimate for small ones once one of these is trained."""
    small = [replace(cell, population="small") for cell in CELLS[4:]]
    clock = Clock()
    eta = EtaEstimator([*CELLS[:4], *small], slots=1, clock=clock)
    eta.update(untrained(RECIPES[:2], "large"))
    eta.update(untrained(RECIPES[2:], "small"))
    clock.now = 100.0
    eta.update(epoch(RECIPES[0]))
    for cell in CELLS[:2]:
        measure(eta, clock, cell)
    assert eta.seconds() == 10.0 + 5 * 100.0
    clock.now += 2.0
    eta.update(epoch(RECIPES[2]))
    for cell in small[:2]:
        measure(eta, clock, cell)
    assert eta.seconds() == 8.0 + 100.0 + 3 * 2.0


def test_a_run_tells_of_each_network_that_it_has_to_train(tmp_path: Path) -> None:
    """Also a training that is over before the next message of its worker, of which the second run has two.

    At the end nothing is left.
    """
    missing, trained = [], []
    for cells, workers, engine in ((CELLS[:4], 1, "inline"), (CELLS, 2, "process")):
        options = RunOptions(cache_dir=tmp_path, threads=1, workers=workers, engine=engine)
        eta = EtaEstimator(cells, slots=workers)
        seen = set()
        for event in iterate_events(cells, options):
            eta.update(event)
            if isinstance(event, UntrainedNetworks):
                missing.append(set(event.populations))
            elif isinstance(event, TrainingEpoch):
                seen.add(event.recipe)
        trained.append(seen)
        assert (eta.seconds(), eta.training_included) == (0.0, True)
    assert missing == trained == [set(RECIPES[:2]), set(RECIPES[2:])]
