"""A contestant releases memory that the others need, also between the search of its batch size and its first round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sharpbench.comparison.config import Comparison, Job
from sharpbench.comparison.contestant import MAX_IDLE_BYTES, Contestant
from sharpbench.comparison.process import ContestantLost
from sharpbench.datasets.digits import Digits
from sharpbench.files import Workspace


class Greedy:
    """A stand-in for the process, which only answers."""

    resident = 0
    alive = 0

    def __init__(self, job: Job) -> None:
        type(self).alive += 1
        self.environment: dict[str, Any] = {}

    def ask(self, request: str, **words: Any) -> dict[str, Any]:
        return {"seconds": 2.0, "calls": 1, "value": 1.0, "resident": self.resident, "imported": [], "peak_bytes": 0}

    def close(self) -> None:
        type(self).alive -= 1


class Small(Greedy):
    """Better the smaller its batches, lost with those of 64; the first call of a process takes 2 s more."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.late = 2.0

    def ask(self, request: str, **words: Any) -> dict[str, Any]:
        if words["batch"] == 64:
            raise ContestantLost("oom", "too much")
        late, self.late = self.late, 0.0
        return {**super().ask(request), "seconds": {4: 0.1, 16: 0.8}[words["batch"]] + late}


@pytest.mark.parametrize(("resident", "alive"), [(MAX_IDLE_BYTES["cpu"], 1), (MAX_IDLE_BYTES["cpu"] + 1, 0)])
def test_a_process_that_holds_much_is_ended_before_others_play(
    resident: int, alive: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharpbench.comparison.contestant.ContestantProcess", Greedy)
    monkeypatch.setattr(Greedy, "resident", resident)
    monkeypatch.setattr(Greedy, "alive", 0)
    contestant = make_contestant(16, 64)
    rows = list(contestant.prepare(None))
    assert [row["round"] for row in rows] == [0]
    assert Greedy.alive == alive
    assert contestant.needs_round(1)
    list(contestant.measure_round(1, None))
    assert Greedy.alive == alive
    contestant.close()
    assert Greedy.alive == 0


def test_the_start_of_a_fresh_process_is_no_reason_against_a_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is needed because a larger size was lost."""
    monkeypatch.setattr("sharpbench.comparison.contestant.ContestantProcess", Small)
    (row,) = make_contestant(4, 16, 64).prepare(None)
    assert row["batch"] == 4
    assert row["details"] == {"16": 0.8, "4": 0.1}


def make_contestant(*batches: int) -> Contestant:
    """One that starts at 16."""
    comparison = Comparison(quantity="trace", models=(), measures=(), dataset=Digits(), examples=64, batches=batches)
    job = Job(
        measure="trace", quantity="trace", model="small-mlp", file=Path("none"), outputs=10, dtype="float32",
        workspace=Workspace(cache_dir=Path("none")),
    )  # fmt: skip
    return Contestant(job, "sharpbench_measures", comparison, rows=[], start=16)
