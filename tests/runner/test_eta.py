"""The estimate of the time left: from the means of cells of the same kind, with slots and running cells counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpbench import plan
from sharpbench.datasets.digits import Digits
from sharpbench.runner.cell import Cell
from sharpbench.runner.engines.pool import CellStarted
from sharpbench.runner.eta import EtaEstimator
from sharpbench.runner.evaluate_cell import cell_record
from sharpbench.runner.networks import UntrainedNetworks
from sharpbench.runner.run import RunOptions, iterate_events
from sharpbench.training.population import TrainingEpoch
from sharpbench.training.state import Epoch

CELLS = plan(
    "parameter-norm,gradient-norm", "small-mlp", cohort="label-noise[ratios=2,seeds=3,train_size=8,max_epochs=1]",
    device="cpu", timing=0, oracle=0, invariance=0,
)  # fmt: skip
RECIPES = list(dict.fromkeys(cell.recipe for cell in CELLS))
DATA = Digits().load(None)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def end(eta: EtaEstimator, cell: Cell) -> None:
    eta.update(cell_record(cell, DATA, None))


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
    eta.update(UntrainedNetworks(frozenset(RECIPES[2:])))
    for cell in CELLS[:4]:
        eta.update(CellStarted(cell))
        clock.now += 1.0
        end(eta, cell)
    assert (eta.seconds(), eta.training_included) == (8.0, False)
    for recipe in RECIPES[2:4]:
        clock.now += 10.0
        eta.update(TrainingEpoch(recipe, Epoch(1, 1, 0.5, True, False)))
        assert (eta.seconds(), eta.training_included) == (8.0, False)
    eta.update(CellStarted(CELLS[4]))
    assert (eta.seconds(), eta.training_included) == (8.0 + 2 * 10.0, True)
    clock.now += 1.0
    end(eta, CELLS[4])
    assert eta.seconds() == 7.0 + 20.0
    clock.now += 4.0
    eta.update(TrainingEpoch(RECIPES[4], Epoch(1, 1, 0.5, False, False)))
    assert eta.seconds() == 7.0 + 16.0  # four seconds of the training are over
    end(eta, CELLS[8])  # the first cell of the network, which is lost
    assert eta.seconds() == 6.0 + 10.0
    clock.now += 6.0
    eta.update(TrainingEpoch(RECIPES[5], Epoch(1, 1, 0.5, True, False)))
    eta.update(CellStarted(CELLS[10]))
    assert eta.seconds() == pytest.approx(6.0)
    assert eta.training_included


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_names_the_networks_that_it_has_to_train(tmp_path: Path, workers: int) -> None:
    options = RunOptions(cache_dir=tmp_path, threads=1, workers=workers, engine="process" if workers > 1 else "inline")
    missing = [
        event.recipes
        for cells in (CELLS[:4], CELLS)
        for event in iterate_events(cells, options)
        if isinstance(event, UntrainedNetworks)
    ]
    assert missing == [frozenset(RECIPES[:2]), frozenset(RECIPES[2:])]
