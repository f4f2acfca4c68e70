"""How a run stands: what its notes and records say, while it is alive and afterwards."""

from __future__ import annotations

import io
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from rich.console import Console

from sharpbench import Estimate, InvalidInput, Measure, Subject, plan
from sharpbench.cli.status import show_status as show
from sharpbench.core.jsonl import JsonlFile
from sharpbench.core.measure import Invariance
from sharpbench.core.records import RECORDS
from sharpbench.report.format import format_duration
from sharpbench.runner.engines.pool import CellStarted
from sharpbench.runner.run import RunOptions, iterate_events
from sharpbench.runner.status import STATUS_FILE, RunStatus, StatusFile, read_status


@dataclass(frozen=True)
class Picky(Measure):
    """Fails, is skipped or has a value."""

    name: ClassVar[str] = "picky"
    title: ClassVar[str] = "picky"
    source: ClassVar[str] = "tests"
    fails: bool = False

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        if self.fails:
            raise RuntimeError("no [bold]luck[/bold]")
        return Estimate(1.0)

    def exact(self, subject: Subject) -> float | None:
        return None

    def invariances(self) -> frozenset[Invariance]:
        return frozenset()


def test_a_long_cell_is_seen_although_nothing_happens_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beginning comes within a second of the last note, and no event follows that would bring another."""
    monkeypatch.setattr("sharpbench.runner.status.WRITE_INTERVAL_SECONDS", 0.2)
    cells = plan([Picky()], "small-mlp", cohort="label-noise[ratios=2,seeds=1]", device="cpu", examples=8)
    with StatusFile(tmp_path, cells, planned=1, slots=1, shard=None) as status, JsonlFile(tmp_path / RECORDS):
        status.update(CellStarted(cells[0]))
        until = time.monotonic() + 20
        while not read_status(tmp_path).running and time.monotonic() < until:
            time.sleep(0.05)
        assert [each.measure for each in read_status(tmp_path).running] == ["picky"]


def shown(found: RunStatus) -> str:
    console = Console(file=io.StringIO(), width=200)
    show(found, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_run_says_how_it_stands_while_it_runs_and_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharpbench.runner.status.WRITE_INTERVAL_SECONDS", 0.0)
    cells = plan(
        [Picky(), Picky(fails=True)], "small-mlp", cohort="label-noise[ratios=2,seeds=1,train_size=32,max_epochs=2]",
        device="cpu", timing=0, oracle=0, invariance=0, examples=8,
    )  # fmt: skip
    steps = iterate_events(cells, RunOptions(output=tmp_path / "out", cache_dir=tmp_path / "cache", threads=1))
    started = 0
    for step in steps:
        started += isinstance(step, CellStarted)
        if started == 4:
            break
    during = read_status(tmp_path / "out")
    assert (during.planned, during.left, during.alive) == (4, 1, True)
    assert during.done == {"ok": 2, "failed": 1}
    assert during.failed == (("failed", "RuntimeError: no [bold]luck[/bold]", 1),)
    assert [(each.measure, each.network) for each in during.running] == [("picky[fails=true]", cells[3].recipe.title)]
    assert during.seconds is not None
    assert during.seconds >= 0
    text = shown(during)
    for word in ("2 ok", "1 failed", "alive, pid", "1 of 4 cells", "no [bold]luck[/bold]", "picky[fails=true]"):
        assert word in text
    list(steps)
    after = read_status(tmp_path / "out")
    assert (after.planned, after.left, after.alive, after.running) == (4, 0, False, ())
    assert after.done == {"ok": 2, "failed": 2}
    assert "none is alive" in shown(after)
    assert "forecast" not in shown(after)


def test_notes_that_are_odd_or_gone_are_no_error_or_a_named_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no records at .*; name the folder that --output"):
        read_status(tmp_path)
    (tmp_path / RECORDS).write_text("", encoding="utf-8")
    assert read_status(tmp_path).planned is None
    assert "nothing" in shown(read_status(tmp_path))
    odd = {"planned": "4", "left": 2, "running": [7, {"measure": "m"}], "seconds": None, "host": 3}
    (tmp_path / STATUS_FILE).write_text(json.dumps(odd), encoding="utf-8")
    found = read_status(tmp_path)
    assert (found.planned, found.left, found.running, found.host) == (None, 2, (), None)
    (tmp_path / STATUS_FILE).write_text('{"left": 2, "seconds": 5, "training_included": 1}', encoding="utf-8")
    assert "5 s of measuring\n" in re.sub(" +\n", "\n", shown(read_status(tmp_path)))
    assert "2 cells, as last requested" in shown(read_status(tmp_path))
    whole = '{"left": 2, "planned": 3, "seconds": 5, "training_included": true, "updated": "noon"}'
    (tmp_path / STATUS_FILE).write_text(whole, encoding="utf-8")
    assert "5 s, as of noon" in shown(read_status(tmp_path))
    assert "2 of 3 cells" in shown(read_status(tmp_path))
    for number in ("NaN", "1e400", "-Infinity", "9" * 400, "true"):
        (tmp_path / STATUS_FILE).write_text(f'{{"left": {number}, "seconds": {number}}}', encoding="utf-8")
        assert read_status(tmp_path).seconds is None
        assert "forecast" not in shown(read_status(tmp_path))
    (tmp_path / STATUS_FILE).write_text("[]", encoding="utf-8")
    assert read_status(tmp_path).left is None
    (tmp_path / STATUS_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"cannot read .*state.json: .*; delete it, the next run writes it anew"):
        read_status(tmp_path)
    for name in (STATUS_FILE, RECORDS):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        with pytest.raises(InvalidInput, match=rf"{name}' is not a plain file; replace it by one, or remove it"):
            read_status(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (18120, "5 h 2 min"), (273600, "3 d 4 h")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
