"""schedule(): one record per cell, whatever the pool does; simulated, without processes."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sharpbench import Cell, InvalidInput, Record
from sharpbench.runner.cell_record import cell_record
from sharpbench.runner.engines.pool import CellStarted, WorkerDeath
from sharpbench.runner.engines.scheduler import MAX_RETRIES, MAX_START_RETRIES, schedule
from sharpbench.training.population import TrainingEpoch


class SimulatedPool:
    """A pool that ends cells in any order, with a death now and then."""

    def __init__(self, slots: int, seed: int, deaths: float = 0.0, retry: bool = True, started: bool = True) -> None:
        self.slots, self.draws, self.deaths = slots, random.Random(seed), deaths
        self.retry, self.started = retry, started
        self.held: dict[int, Cell] = {}
        self.most = 0

    def start(self, slot: int, cell: Cell) -> None:
        assert slot not in self.held
        self.held[slot] = cell
        self.most = max(self.most, len(self.held))
        timed = [cell for cell in self.held.values() if cell.checks.timed]
        assert not timed or len(self.held) == 1

    def wait(self) -> list[tuple[int, Record | WorkerDeath]]:
        ended = self.draws.sample(sorted(self.held), self.draws.randint(1, len(self.held)))
        return [(slot, self._outcome(self.held.pop(slot))) for slot in ended]

    def _outcome(self, cell: Cell) -> Record | WorkerDeath:
        if self.draws.random() < self.deaths:
            return WorkerDeath(status="failed", reason="killed", retry=self.retry, started=self.started, printed="x")
        return replace(record(cell), status="ok", reason=None, value=1.0)

    def close(self) -> None:
        self.held.clear()


def record(cell: Cell) -> Record:
    class Sizes:
        train_inputs = test_targets = ()

    return cell_record(cell, Sizes(), None)  # type: ignore[arg-type]


class Networks:
    """Networks that are there, but for those of `lost`, which cannot be made because of `error`."""

    def __init__(self, lost: Sequence[Cell] = (), error: Exception | None = None) -> None:
        self.lost, self.error = {cell.recipe for cell in lost}, error

    def prepare(self, cell: Cell) -> Generator[TrainingEpoch, None, Any]:
        yield from ()
        if self.error is not None and cell.recipe in self.lost:
            raise self.error
        return record

    def lost_record(self, cell: Cell, error: Exception) -> Record:
        return replace(record(cell), reason=str(error))


@pytest.mark.parametrize("seed", range(20))
def test_every_cell_has_one_record(seed: int, planned: Any, odd: Any) -> None:
    cells = planned([odd(number=number) for number in range(3)], ratios=5, timing=seed % 3)
    pool = SimulatedPool(1 + seed % 4, seed, deaths=0.3)
    events = list(schedule(cells, pool, Networks()))
    records = [event for event in events if isinstance(event, Record)]
    assert sorted(each.key for each in records) == sorted(cell.key for cell in cells)
    assert sum(isinstance(event, CellStarted) for event in events) == len(cells)
    assert pool.most == min(pool.slots, 5 - seed % 3)
    for recipe in {cell.recipe for cell in cells}:  # the cells of a network stay in their order
        keys = [cell.key for cell in cells if cell.recipe == recipe]
        assert [each.key for each in records if each.key in keys] == keys


def test_what_is_killed_every_time_is_given_up(planned: Any, odd: Any) -> None:
    (first, *_) = cells = planned([odd()])
    pool = SimulatedPool(1, 0, deaths=1.0)
    (found, *_) = [event for event in schedule(cells, pool, Networks()) if isinstance(event, Record)]
    assert (found.key, found.status, found.printed) == (first.key, "failed", "x")
    assert found.reason == f"killed, {1 + MAX_RETRIES} times"
    pool = SimulatedPool(1, 0, deaths=1.0, started=False)
    (found, *_) = [event for event in schedule(cells, pool, Networks()) if isinstance(event, Record)]
    assert found.reason == f"killed, {1 + MAX_START_RETRIES} times"
    pool = SimulatedPool(1, 0, deaths=1.0, retry=False)
    (found, *_) = [event for event in schedule(cells, pool, Networks()) if isinstance(event, Record)]
    assert found.reason == "killed"


def test_a_network_that_cannot_be_made_costs_its_cells_and_a_cache_ends_all(planned: Any, odd: Any) -> None:
    cells = planned([odd(), odd(number=1)])

    networks = Networks(cells[:1], RuntimeError("no network"))
    found = [event for event in schedule(cells, SimulatedPool(2, 0), networks) if isinstance(event, Record)]
    assert [each.reason for each in found] == ["no network", "no network", None, None]
    with pytest.raises(InvalidInput, match="cannot write"):
        list(schedule(cells, SimulatedPool(2, 0), Networks(cells, InvalidInput("cannot write"))))
