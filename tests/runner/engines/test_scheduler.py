"""conduct(): every cell one record, whatever the crew does; simulated, without processes."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest

from sharpbench import Cell, InvalidInput, Record
from sharpbench.runner.engines import CellStarted, schedule
from sharpbench.runner.engines.scheduler import AGAIN, STARTS
from sharpbench.runner.evaluate_cell import empty_record
from sharpbench.runner.failures import WorkerDeath
from sharpbench.training.population import TrainingEpoch


class Simulated:
    """A crew that ends cells in any order, with a death now and then."""

    def __init__(self, seats: int, seed: int, deaths: float = 0.0, again: bool = True, begun: bool = True) -> None:
        self.seats, self.draws, self.deaths = seats, random.Random(seed), deaths
        self.again, self.begun = again, begun
        self.held: dict[int, Cell] = {}
        self.most = 0

    def begin(self, seat: int, cell: Cell) -> None:
        assert seat not in self.held
        self.held[seat] = cell
        self.most = max(self.most, len(self.held))
        timed = [cell for cell in self.held.values() if cell.timed]
        assert not timed or len(self.held) == 1

    def finished(self) -> list[tuple[int, Record | WorkerDeath]]:
        ended = self.draws.sample(sorted(self.held), self.draws.randint(1, len(self.held)))
        return [(seat, self._outcome(self.held.pop(seat))) for seat in ended]

    def _outcome(self, cell: Cell) -> Record | WorkerDeath:
        if self.draws.random() < self.deaths:
            return WorkerDeath(status="failed", reason="killed", again=self.again, begun=self.begun, printed="x")
        return replace(record(cell), status="ok", reason=None, value=1.0)

    def close(self) -> None:
        self.held.clear()


def record(cell: Cell) -> Record:
    class Sizes:
        train_inputs = test_targets = ()

    return empty_record(cell, Sizes(), None)  # type: ignore[arg-type]


def ready(cell: Cell) -> Generator[TrainingEpoch, None, Any]:
    yield from ()
    return record


def lost(cell: Cell, error: Exception) -> Record:
    return replace(record(cell), reason=str(error))


@pytest.mark.parametrize("seed", range(20))
def test_every_cell_has_one_record(seed: int, planned: Any, odd: Any) -> None:
    cells = planned([odd(number=number) for number in range(3)], ratios=5, timing=seed % 3)
    crew = Simulated(1 + seed % 4, seed, deaths=0.3)
    events = list(schedule(cells, crew, ready=ready, lost=lost))
    records = [event for event in events if isinstance(event, Record)]
    assert sorted(each.key for each in records) == sorted(cell.key for cell in cells)
    assert sum(isinstance(event, CellStarted) for event in events) == len(cells)
    assert crew.most == min(crew.seats, 5 - seed % 3)
    for recipe in {cell.recipe for cell in cells}:  # the cells of a network stay in their order
        keys = [cell.key for cell in cells if cell.recipe == recipe]
        assert [each.key for each in records if each.key in keys] == keys


def test_what_is_killed_every_time_is_given_up(planned: Any, odd: Any) -> None:
    (first, *_) = cells = planned([odd()])
    crew = Simulated(1, 0, deaths=1.0)
    (found, *_) = [event for event in schedule(cells, crew, ready=ready, lost=lost) if isinstance(event, Record)]
    assert (found.key, found.status, found.printed) == (first.key, "failed", "x")
    assert found.reason == f"killed, {1 + AGAIN} times"
    crew = Simulated(1, 0, deaths=1.0, begun=False)
    (found, *_) = [event for event in schedule(cells, crew, ready=ready, lost=lost) if isinstance(event, Record)]
    assert found.reason == f"killed, {1 + STARTS} times"
    crew = Simulated(1, 0, deaths=1.0, again=False)
    (found, *_) = [event for event in schedule(cells, crew, ready=ready, lost=lost) if isinstance(event, Record)]
    assert found.reason == "killed"


def test_a_network_that_cannot_be_made_costs_its_cells_and_a_cache_ends_all(planned: Any, odd: Any) -> None:
    cells = planned([odd(), odd(number=1)])

    def broken(cell: Cell) -> Generator[TrainingEpoch, None, Any]:
        yield from ()
        if cell.recipe == cells[0].recipe:
            raise RuntimeError("no network")
        return record

    found = [event for event in schedule(cells, Simulated(2, 0), ready=broken, lost=lost) if isinstance(event, Record)]
    assert [each.reason for each in found] == ["no network", "no network", None, None]

    def unwritable(cell: Cell) -> Generator[TrainingEpoch, None, Any]:
        yield from ()
        raise InvalidInput("cannot write")

    with pytest.raises(InvalidInput, match="cannot write"):
        list(schedule(cells, Simulated(2, 0), ready=unwritable, lost=lost))
