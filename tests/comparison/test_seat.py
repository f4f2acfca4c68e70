"""A seat lets go of memory that the others need, also between the search of its batch size and its first round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sharpbench.comparison.process import Job
from sharpbench.comparison.seat import HELD, Seat
from sharpbench.comparison.settings import Comparison
from sharpbench.datasets.digits import Digits


class Greedy:
    """A process of which nothing but the answers is there."""

    resident = 0
    alive = 0

    def __init__(self, job: Job) -> None:
        type(self).alive += 1
        self.environment: dict[str, Any] = {}

    def ask(self, request: str, **words: Any) -> dict[str, Any]:
        return {"seconds": 2.0, "calls": 1, "value": 1.0, "resident": self.resident, "imported": [], "peak_bytes": 0}

    def close(self) -> None:
        type(self).alive -= 1


@pytest.mark.parametrize(("resident", "alive"), [(HELD, 1), (HELD + 1, 0)])
def test_a_process_that_holds_much_is_ended_before_others_play(
    resident: int, alive: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharpbench.comparison.seat.Contestant", Greedy)
    monkeypatch.setattr(Greedy, "resident", resident)
    monkeypatch.setattr(Greedy, "alive", 0)
    comparison = Comparison(quantity="trace", models=(), measures=(), dataset=Digits(), examples=64, batches=(16, 64))
    job = Job(
        measure="trace", quantity="trace", model="small-mlp", file=Path("none"), outputs=10, dtype="float32",
        device="cpu", threads=1, plugins=(),
    )  # fmt: skip
    seat = Seat("trace", job, "sharpbench_measures", comparison, [], 16)
    rows = list(seat.prepare(None))
    assert [row["round"] for row in rows] == [0]
    assert Greedy.alive == alive
    assert seat.plays(1)
    list(seat.turn(1, None))
    assert Greedy.alive == alive
    seat.close()
    assert Greedy.alive == 0
