"""Cells, trainings and networks that take too much time or memory leave a verification unfinished, which fails."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sharpbench import Record
from sharpbench.files import Workspace
from sharpbench.leaderboard.submissions import (
    CellSample,
    Compared,
    Manifest,
    VerificationSetting,
    draw_cells,
    find_installed,
    format_submission,
    read_submission,
    read_verdicts,
    verify_submission,
    verify_with_limits,
)
from sharpbench.leaderboard.submissions.networks import SubmittedPopulations
from sharpbench.leaderboard.submissions.submission import hash_records
from sharpbench.runner.cell import KeyContent
from sharpbench.runner.engines.limits import Limits
from sharpbench.training.population import Population
from tests.commands import given

from .conftest import forged

TRAPS = """
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from sharpbench import Estimate, Measure


@dataclass(frozen=True)
class Trap(Measure):
    name, title, source = "trap", "a trap", "nobody"
    kind: str = "none"

    def exact(self, subject):
        return None

    def invariances(self):
        return frozenset()

    def __call__(self, subject, *, generator):
        if not Path(__file__).with_name("harmless").exists():
            if self.kind == "time":
                time.sleep(600)
            if self.kind == "memory":
                torch.ones(2**30)
            if self.kind == "end":
                os._exit(3)
        return Estimate(1.0)


MEASURES = [Trap]
"""


def sealed(record: Record, version: int = 1, **changes: Any) -> Record:
    """The record with changes, and the key of its content."""
    changed = replace(record, **changes)
    examples = changed.data["examples"]
    return replace(changed, key=KeyContent.of_record(changed, version=version).key(examples=examples))


def write(text: str, folder: Path, records: Sequence[Record]) -> Path:
    """The submission `honest` with these records."""
    manifest = Manifest.from_json(text.splitlines()[0])
    measures = {record.measure: "x 1" for record in records}
    manifest = replace(manifest, records=len(records), sha256=hash_records(records), measures=measures)
    path = folder / "honest.jsonl"
    path.write_text(format_submission(manifest, records), encoding="utf-8")
    return path


@pytest.fixture
def trapped(text: str, records: tuple[Record, ...], tmp_path: Path) -> Path:
    """A submission with a trap of each kind on one network, and an honest cell."""
    (tmp_path / "traps.py").write_text(TRAPS)
    honest = next(record for record in records if record.measure == "gradient-norm")
    number = {"value": 1.0, "stderr": 0.0, "stderr_examples": None, "low": None, "high": None, "probes": 0}
    traps = [
        sealed(honest, measure="trap", label=f"trap[kind={kind}]", configuration={"kind": kind}, **number)
        for kind in ("time", "memory", "end")
    ]
    return write(text, tmp_path, [*traps, honest])


def test_a_cell_beyond_a_limit_is_unfinished_and_the_others_go_on(trapped: Path, ran: Path, tmp_path: Path) -> None:
    words = ("verify", trapped, "--cache-dir", ran / "cache", "--plugin", tmp_path / "traps.py", "--record")
    limits = ("--timeout", 10, "--memory-limit", "3GiB")  # an honest cell takes some seconds on busy cores
    done = given(*words, *limits)
    assert done.returncode == 5, done.stderr
    assert "honest is unfinished: a limit of time or memory was reached" in done.stdout
    assert "1 values agree, 0 differ" in done.stdout
    assert "3 could not be recomputed (2 because of a limit)" in done.stdout
    assert "it took longer than 10 s (--timeout)" in done.stdout
    assert "the process that recomputed it ended with status 3" in done.stdout
    recorded = read_verdicts(tmp_path / "honest.verdicts.jsonl")
    values = {f.label: f.outcome for verdict in recorded for f in verdict.findings if f.what == "value"}
    unknown = dict.fromkeys((f"trap[kind={kind}]" for kind in ("time", "memory", "end")), "unknown")
    assert values == {"gradient-norm": "agrees", **unknown}
    assert sum(verdict.unfinished for verdict in recorded) == 2
    (tmp_path / "harmless").touch()
    done = given(*words, "--json")
    assert (done.returncode, "1 of 4 cells are recorded already" in done.stderr) == (0, True)
    values = {f["label"]: f["outcome"] for f in json.loads(done.stdout)["findings"] if f["what"] == "value"}
    assert values == dict.fromkeys(values, "agrees")
    assert len(values) == 4


def verify_under(path: Path, cache: Path, limits: Limits, seconds: float) -> tuple[list[Compared], float]:
    submission, known = read_submission(path), find_installed()
    drawn = draw_cells(submission, sample=100, seed=0, known=known)
    setting = VerificationSetting(workspace=Workspace(cache_dir=cache), known=known, memory=limits.memory)
    steps = verify_with_limits(submission, drawn, setting, limits, seconds=seconds)
    found = [step for step in steps if isinstance(step, Compared)]
    return found, sum(step.unfinished for step in found)


def test_a_slow_companion_leaves_its_group_unfinished(text: str, records: tuple[Record, ...], tmp_path: Path) -> None:
    """A forged network that trains for hours, in the group of honest ones."""
    first = next(record for record in records if record.measure == "gradient-norm")
    endless = {**first.recipe, "max_epochs": 10**7, "target_loss": 1e-300, "seed": 99}
    spent = {**first.truth, "fitted": False, "epochs": 10**7}
    slow = replace(first, key="0" * 64, recipe=endless, truth=spent)
    path = write(text, tmp_path, [slow, *records])
    found, unfinished = verify_under(path, tmp_path / "cache", Limits(timeout=0.2), 600.0)
    reasons = {finding.reason for step in found for finding in step.findings if finding.outcome == "unknown"}
    assert any("it took longer than 0.2 s" in reason for reason in reasons)
    assert unfinished == 12  # one training that is ended, not one per network


def test_when_the_time_is_up_nothing_begins(text: str, tmp_path: Path) -> None:
    found, unfinished = verify_under(forged(text, tmp_path), tmp_path / "cache", Limits(), 0.0)
    assert unfinished == len(found) == 12
    assert {finding.reason for step in found for finding in step.findings} == {"the time was up (--minutes)"}
    assert not (tmp_path / "cache").exists()


def test_a_network_beyond_the_memory_is_not_built(text: str, records: tuple[Record, ...], tmp_path: Path) -> None:
    wide = {**records[0].recipe, "model": "small-mlp[width=30000]", "train_size": 1, "max_epochs": 1}
    truth = {**records[0].truth, "fitted": False, "epochs": 1}
    huge = sealed(records[0], version=find_installed().measures[records[0].measure].version, recipe=wide, truth=truth)
    path = write(text, tmp_path, [huge])
    submission, known = read_submission(path), find_installed()
    drawn = draw_cells(submission, sample=1, seed=0, known=known)
    setting = VerificationSetting(workspace=Workspace(cache_dir=tmp_path / "c"), known=known, memory=2**30)
    (found,) = [step for step in verify_submission(submission, drawn, setting) if isinstance(step, Compared)]
    assert found.unfinished == 1
    assert found.findings[0].reason.startswith("its training needs ")
    assert found.findings[0].reason.endswith("GiB at least, where --memory-limit is 1 GiB")


def test_what_differs_stays_where_training_again_does_not_finish(
    text: str, records: tuple[Record, ...], ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Population):
        def obtain_network(self, recipe: Any) -> Any:
            raise MemoryError

    def retrain(self: SubmittedPopulations, cell: Any, folder: Path) -> Population:
        known = self.made[next(iter(self.made))]
        return Broken(known.recipes, known.data, known.data_sha256, cache=folder, device=known.device)

    monkeypatch.setattr(SubmittedPopulations, "retrain", retrain)
    lie = replace(records[0], value=2 * (records[0].value or 0.0))
    submission, known = read_submission(forged(text, tmp_path, [lie])), find_installed()
    drawn = draw_cells(submission, sample=100, seed=0, known=known)
    setting = VerificationSetting(workspace=Workspace(cache_dir=ran / "cache"), known=known)
    found = list(findings(submission, drawn, setting))
    assert [each.key for each in found if each.outcome == "differs"] == [lie.key]
    assert "unknown" not in {each.outcome for each in found}


def findings(submission: Any, drawn: CellSample, setting: VerificationSetting) -> Iterator[Any]:
    for step in verify_submission(submission, drawn, setting):
        if isinstance(step, Compared):
            yield from step.findings
