"""An honest submission of a small run, made once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from sharpbench import Record, plan, run
from sharpbench.leaderboard.submissions import Manifest, format_submission, pack_submission
from sharpbench.leaderboard.submissions.networks import SubmittedPopulations
from sharpbench.leaderboard.submissions.submission import hash_records
from sharpbench.runner.run import RECORDS
from sharpbench.training.recipe import Recipe

COHORT = "label-noise[ratios=2,seeds=2,train_size=48,target_loss=1.2,target_accuracy=0.6]"
MEASURES = "gradient-norm,parameter-norm,average[samples=8]"


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run; its networks lie in `cache` there."""
    folder = tmp_path_factory.mktemp("ran")
    cells = plan(MEASURES, "small-mlp", cohort=COHORT, device="cpu", timing=0, oracle=0, invariance=0, examples=12)
    list(run(cells, output=folder, cache_dir=folder / "cache", threads=1))
    return folder


@pytest.fixture(scope="session")
def text(ran: Path) -> str:
    """The honest submission `honest`."""
    return pack_submission(ran / RECORDS, name="honest", texts={"author": "A. U. Thor"})


@pytest.fixture(scope="session")
def records(text: str) -> tuple[Record, ...]:
    return tuple(Record.from_json(line, where="") for line in text.splitlines()[1:])


_MODULES: dict[str, nn.Module] = {}


@pytest.fixture(autouse=True)
def _shared_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verifications of one model share the module that they fill with weights, and so the graph that is kept with it:
    its capture would be half of each verification."""
    make = SubmittedPopulations.module

    def module(self: SubmittedPopulations, recipe: Recipe) -> nn.Module:
        name = str((recipe.row()["model"], recipe.row()["dataset"]))
        if name not in _MODULES:
            _MODULES[name] = make(self, recipe)
        return _MODULES[name]

    monkeypatch.setattr(SubmittedPopulations, "module", module)


def forged(text: str, folder: Path, changes: Sequence[Record] = (), **manifest: Any) -> Path:
    """The submission with some records replaced, by their keys, and the digest made right again."""
    lines = text.splitlines()
    changed = {record.key: record for record in changes}
    records = [Record.from_json(line, where="") for line in lines[1:]]
    records = [changed.get(record.key, record) for record in records]
    row = {**json.loads(lines[0]), "sha256": hash_records(records), **manifest}
    found = Manifest(**row)
    path = folder / f"{found.name}.jsonl"
    path.write_text(format_submission(found, records), encoding="utf-8")
    return path


def changed(record: Record, **values: Any) -> Record:
    return replace(record, **values)


Edit = Callable[[list[str]], object]


def edited(text: str, folder: Path, edit: Edit, name: str = "honest.jsonl") -> Path:
    """The submission with its lines edited, digest left as it was."""
    lines = text.splitlines(keepends=True)
    edit(lines)
    path = folder / name
    path.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))
    return path
